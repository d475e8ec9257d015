//! A problem on the wire: `{code, message, hint, call_id, docs}`.
//! The gateway renders it for every platform error, on `/v1` and for functions alike; the client reads it back.

use std::fmt;

use coracle_model::{CallId, Problem};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What went wrong, and what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProblemView {
    /// The HTTP status; it travels in the head of the response, not in its body.
    #[serde(skip)]
    pub status: u16,
    /// The kind of problem; `coracle explain CODE` tells more.
    #[schema(example = "function-not-found")]
    pub code: String,
    /// What failed, on what.
    pub message: String,
    /// What to do next, if more can be said than the page of the code does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The call that it happened in, as in the logs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub call_id: Option<String>,
    /// The command that explains the code.
    #[schema(example = "coracle explain function-not-found")]
    pub docs: String,
}

impl ProblemView {
    /// A problem as a client sees it.
    pub fn new(problem: &Problem, call_id: Option<&CallId>) -> Self {
        Self {
            status: problem.status(),
            code: problem.code.name.to_owned(),
            message: problem.message.clone(),
            hint: problem.hint.clone(),
            call_id: call_id.map(CallId::to_string),
            docs: format!("coracle explain {}", problem.code.name),
        }
    }

    /// The problem as lines for a terminal, the last one ended.
    pub fn to_text(&self) -> String {
        let mut text = format!("error: {}\n", self.message);
        if let Some(hint) = &self.hint {
            text += &format!("hint: {hint}\n");
        }
        if let Some(call_id) = &self.call_id {
            text += &format!("call: {call_id}\n");
        }
        text += &format!("code: {} ({})\n", self.code, self.docs);
        text
    }
}

impl fmt::Display for ProblemView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_model::code;
    use expect_test::expect;

    #[test]
    fn a_problem_is_shown_whole_as_json_and_as_text() {
        let problem =
            Problem::new(&code::FUNCTION_NOT_FOUND, "no function `resise`").hint("did you mean `resize`?");
        let view = ProblemView::new(&problem, CallId::parse("order-17").as_ref());
        expect![[r#"
            {
              "code": "function-not-found",
              "message": "no function `resise`",
              "hint": "did you mean `resize`?",
              "call_id": "order-17",
              "docs": "coracle explain function-not-found"
            }"#]]
        .assert_eq(&serde_json::to_string_pretty(&view).unwrap());
        expect![[r#"
            error: no function `resise`
            hint: did you mean `resize`?
            call: order-17
            code: function-not-found (coracle explain function-not-found)
        "#]]
        .assert_eq(&view.to_text());
    }
}
