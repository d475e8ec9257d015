//! Commands as people type them: words between spaces, with quotes where a word has spaces of its own.
//! `coracle deploy --command` reads them, `coracle show` and the list of changes write them.

use std::borrow::Cow;
use std::str::FromStr;

/// A command, taken apart as a shell does it: quotes and backslashes keep words together, and nothing is replaced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Words(pub(super) Vec<String>);

impl FromStr for Words {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = Vec::new();
        let mut word: Option<String> = None;
        let mut quote = None;
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            match (quote, letter) {
                (Some(open), letter) if open == letter => quote = None,
                (None, '\'' | '"') => {
                    quote = Some(letter);
                    word.get_or_insert_default();
                }
                (None | Some('"'), '\\') => {
                    word.get_or_insert_default().push(letters.next().ok_or("it ends with a backslash")?);
                }
                (None, ' ' | '\t' | '\n') => words.extend(word.take()),
                _ => word.get_or_insert_default().push(letter),
            }
        }
        words.extend(word);
        match (quote, words.is_empty()) {
            (Some(_), _) => Err("a quote is not closed"),
            (None, true) => Err("name a program"),
            (None, false) => Ok(Self(words)),
        }
    }
}

/// A command as one could type it for a shell.
pub(super) fn typed<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    words.into_iter().map(as_typed).collect::<Vec<_>>().join(" ")
}

fn as_typed(word: &str) -> Cow<'_, str> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=@,+%".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return Cow::Borrowed(word);
    }
    Cow::Owned(format!("'{}'", word.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_taken_apart_as_a_shell_does_it() {
        let words = |text: &str| text.parse::<Words>().map(|words| words.0);
        assert_eq!(words("./server  -v").unwrap(), ["./server", "-v"]);
        assert_eq!(
            words(r#"nginx -g 'daemon off;' "a\"b" c\ d ''"#).unwrap(),
            ["nginx", "-g", "daemon off;", "a\"b", "c d", ""]
        );
        for wrong in ["", " ", "'a", "a\\"] {
            assert!(words(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_command_is_shown_as_it_could_be_typed() {
        let table = [
            ("python3", "python3"),
            ("--level=info,x", "--level=info,x"),
            ("daemon off;", "'daemon off;'"),
            ("it's", r"'it'\''s'"),
            ("$HOME", "'$HOME'"),
            ("", "''"),
        ];
        for (word, shown) in table {
            assert_eq!(as_typed(word), shown);
            assert_eq!(typed([word, "x"]).parse::<Words>().unwrap().0, [word, "x"]);
        }
    }
}
