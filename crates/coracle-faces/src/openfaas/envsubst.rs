//! `${NAME}` in a stack file, put in before its YAML is read: with defaults, and what a shell does to texts.
//! It does what faas-cli's library does; what that does to bytes of a character is done to characters here.

use super::glob;

/// Expressions within expressions, at most.
const NESTING_MAX: usize = 32;
/// The longest text that may come of it, in bytes.
const RESULT_BYTES_MAX: usize = 4 << 20;
/// The longest value that is matched against a pattern, in bytes: it costs the square of that.
const TRIMMED_BYTES_MAX: usize = 8 << 10;

const TOO_LONG: &str = "what comes of it is too long";

/// An expression that cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(super) struct BadSubstitution {
    /// Where it begins, in bytes of the text.
    pub(super) at: usize,
    /// What is wrong with it.
    pub(super) reason: &'static str,
}

/// A text with its variables put in; one that nobody has is empty.
///
/// # Errors
/// An expression that cannot be understood, or a result that is too long.
pub(super) fn substitute(
    text: &str,
    value_of: &dyn Fn(&str) -> Option<String>,
) -> Result<String, BadSubstitution> {
    substitute_within(text, value_of, RESULT_BYTES_MAX)
}

fn substitute_within(
    text: &str,
    value_of: &dyn Fn(&str) -> Option<String>,
    bytes_max: usize,
) -> Result<String, BadSubstitution> {
    let mut reader = Reader { text, rest: text, value_of, bytes_max };
    let mut result = String::with_capacity(text.len().min(bytes_max));
    while let Some(piece) = reader.piece(true, 0)? {
        reader.add(piece, &mut result, reader.rest)?;
    }
    Ok(result)
}

/// A text that is read, and what of it is left.
struct Reader<'a> {
    text: &'a str,
    rest: &'a str,
    value_of: &'a dyn Fn(&str) -> Option<String>,
    /// The longest text that anything in it may become, in bytes.
    bytes_max: usize,
}

enum Piece {
    Letter(char),
    Value(String),
}

impl<'a> Reader<'a> {
    /// The next letter or expression. `$$`, `\/` and `\\` are `$`, `/` and `\`.
    fn piece(&mut self, escapes: bool, depth: usize) -> Result<Option<Piece>, BadSubstitution> {
        if let Some(inside) = self.rest.strip_prefix("${") {
            let begin = std::mem::replace(&mut self.rest, inside);
            return self.expression(begin, depth).map(|value| Some(Piece::Value(value)));
        }
        for escape in ["$$", r"\/", r"\\"] {
            if escapes && self.eats(escape) {
                return Ok(escape.chars().next_back().map(Piece::Letter));
            }
        }
        Ok(self.next().map(Piece::Letter))
    }

    /// What stands between the braces, of which the first one was read.
    fn expression(&mut self, begin: &'a str, depth: usize) -> Result<String, BadSubstitution> {
        if depth >= NESTING_MAX {
            return Err(self.bad(begin, "there are too many `${` within each other"));
        }
        if self.eats("#") {
            let value = self.value(begin)?;
            self.close(begin)?;
            return Ok(value.chars().count().to_string());
        }
        let value = self.value(begin)?;
        if [":-", ":=", ":?", ":+", "="].iter().any(|sign| self.eats(sign)) {
            // All of them are defaults to faas-cli, and what is empty is as good as unset.
            let default = self.word("}", false, begin, depth)?;
            self.close(begin)?;
            return Ok(if value.is_empty() { default } else { value });
        }
        let value = match self.next() {
            Some('}') => return Ok(value),
            Some(':') => {
                let from = self.word(":}", false, begin, depth)?;
                let length = if self.eats(":") { Some(self.word("}", false, begin, depth)?) } else { None };
                part(&value, &from, length.as_deref())
            }
            Some(sign @ (',' | '^')) => {
                let change = if sign == ',' { str::to_lowercase } else { str::to_uppercase };
                let is_whole = self.rest.starts_with(sign) && self.next().is_some();
                let changed =
                    if is_whole { value.len() } else { value.chars().next().map_or(0, char::len_utf8) };
                // A letter becomes three times as long at the most, so this is bounded before it is checked.
                self.short_enough(begin, change(&value[..changed]) + &value[changed..])?
            }
            Some(sign @ ('#' | '%')) => {
                let is_longest = self.rest.starts_with(sign) && self.next().is_some();
                let pattern = self.word("}", false, begin, depth)?;
                if value.len() > TRIMMED_BYTES_MAX {
                    return Err(self.bad(begin, "the value is too long to be matched against a pattern"));
                }
                trimmed(&value, &pattern, sign == '#', is_longest).to_owned()
            }
            Some('/') => {
                let how = ["/", "#", "%"].into_iter().find(|how| self.eats(how));
                let from = self.word("/}", true, begin, depth)?;
                let to = if self.eats("/") { self.word("}", true, begin, depth)? } else { String::new() };
                replaced(value, how, &from, &to, self.bytes_max).ok_or_else(|| self.bad(begin, TOO_LONG))?
            }
            Some(_) => return Err(self.bad(begin, "what follows the name is no operation")),
            None => return Err(self.bad(begin, "its `}` is missing")),
        };
        self.close(begin)?;
        Ok(value)
    }

    /// The value of the variable whose name comes next.
    fn value(&mut self, begin: &'a str) -> Result<String, BadSubstitution> {
        let is_of_name = |c: char| c.is_alphanumeric() || c == '_' || c == '-';
        let end = self.rest.find(|c| !is_of_name(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        if name.is_empty() {
            return Err(self.bad(begin, "it names no variable"));
        }
        self.rest = rest;
        self.short_enough(begin, (self.value_of)(name).unwrap_or_default())
    }

    /// A text up to one of these, which is left; expressions in it are put in.
    fn word(
        &mut self,
        ends: &str,
        escapes: bool,
        begin: &'a str,
        depth: usize,
    ) -> Result<String, BadSubstitution> {
        let mut word = String::new();
        while !self.rest.starts_with(|c| ends.contains(c)) {
            match self.piece(escapes, depth + 1)? {
                Some(piece) => self.add(piece, &mut word, begin)?,
                None => return Err(self.bad(begin, "its `}` is missing")),
            }
        }
        Ok(word)
    }

    /// Adds to a text, unless it became too long.
    fn add(&self, piece: Piece, text: &mut String, begin: &str) -> Result<(), BadSubstitution> {
        let more = match &piece {
            Piece::Letter(letter) => letter.len_utf8(),
            Piece::Value(value) => value.len(),
        };
        if text.len() + more > self.bytes_max {
            return Err(self.bad(begin, TOO_LONG));
        }
        match piece {
            Piece::Letter(letter) => text.push(letter),
            Piece::Value(value) => text.push_str(&value),
        }
        Ok(())
    }

    fn short_enough(&self, begin: &str, value: String) -> Result<String, BadSubstitution> {
        if value.len() > self.bytes_max { Err(self.bad(begin, TOO_LONG)) } else { Ok(value) }
    }

    fn close(&mut self, begin: &'a str) -> Result<(), BadSubstitution> {
        if self.eats("}") { Ok(()) } else { Err(self.bad(begin, "its `}` is missing")) }
    }

    fn eats(&mut self, text: &str) -> bool {
        match self.rest.strip_prefix(text) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn next(&mut self) -> Option<char> {
        let mut letters = self.rest.chars();
        let letter = letters.next();
        self.rest = letters.as_str();
        letter
    }

    fn bad(&self, begin: &str, reason: &'static str) -> BadSubstitution {
        BadSubstitution { at: self.text.len() - begin.len(), reason }
    }
}

/// `${V:from:length}`: what is no number leaves the value as it is.
fn part(value: &str, from: &str, length: Option<&str>) -> String {
    let Ok(from) = from.parse::<i64>() else { return value.to_owned() };
    let count = value.chars().count();
    let from = match usize::try_from(from) {
        Ok(from) => from,
        // Counted from the end.
        Err(_) => count.saturating_sub(usize::try_from(from.unsigned_abs()).unwrap_or(count)),
    };
    let rest = value.chars().skip(from);
    match length.map(str::parse::<i64>) {
        None => rest.collect(),
        Some(Ok(length)) => rest.take(usize::try_from(length).unwrap_or(0)).collect(),
        Some(Err(_)) => value.to_owned(),
    }
}

/// A value without the beginning or the end that fits a pattern.
fn trimmed<'v>(value: &'v str, pattern: &str, from_start: bool, is_longest: bool) -> &'v str {
    let cuts = value.char_indices().map(|(at, _)| at);
    // What is cut off has one character at least.
    let mut cuts: Vec<usize> =
        if from_start { cuts.skip(1).chain([value.len()]).collect() } else { cuts.collect() };
    // The shortest comes first.
    if from_start == is_longest {
        cuts.reverse();
    }
    let halves = |cut: usize| {
        let (before, after) = value.split_at(cut);
        if from_start { (before, after) } else { (after, before) }
    };
    cuts.into_iter()
        .map(halves)
        .find(|(cut_off, _)| glob::fits(pattern, cut_off))
        .map_or(value, |(_, rest)| rest)
}

/// A value with one text for another: the first, all, the one at the start, or the one at the end.
/// `None` is one that would have more bytes than this, which is known before any of it is made.
fn replaced(value: String, how: Option<&str>, from: &str, to: &str, bytes_max: usize) -> Option<String> {
    let count = match how {
        Some("#") => usize::from(value.starts_with(from)),
        Some("%") => usize::from(value.ends_with(from)),
        // An empty text is found before every letter, and at the end.
        Some(_) => value.matches(from).count(),
        None => usize::from(value.contains(from)),
    };
    let kept = value.len() - count * from.len();
    if count.checked_mul(to.len()).and_then(|put_in| put_in.checked_add(kept))? > bytes_max {
        return None;
    }
    let rest = match how {
        Some("#") => value.strip_prefix(from).map(|rest| format!("{to}{rest}")),
        Some("%") => value.strip_suffix(from).map(|rest| format!("{rest}{to}")),
        Some(_) => Some(value.replace(from, to)),
        None => Some(value.replacen(from, to, 1)),
    };
    Some(rest.unwrap_or(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(text: &str, variables: &[(&str, &str)]) -> Result<String, BadSubstitution> {
        substitute(text, &|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    const VARIABLES: [(&str, &str); 6] = [
        ("TAG", "1.4.2"),
        ("FILE", "/srv/files/report.tar.gz"),
        ("Word", "grÜße"),
        ("EMPTY", ""),
        ("N", "2"),
        ("WITH-DASH", "dashed"),
    ];

    #[test]
    fn every_operation_does_what_a_shell_would() {
        let table = [
            // Values, and what is there when there is none.
            ("image: shop:${TAG}", "image: shop:1.4.2"),
            ("${NOBODY}", ""),
            ("${TAG:-latest} ${NOBODY:-latest} ${EMPTY:-latest}", "1.4.2 latest latest"),
            ("${NOBODY:=a b} ${NOBODY=c} ${EMPTY=d} ${NOBODY:-}", "a b c d "),
            ("${NOBODY:-${EMPTY:-${TAG}}-x}", "1.4.2-x"),
            ("${NOBODY:-http://a:80/b}", "http://a:80/b"),
            ("${NOBODY:+x} ${TAG:+x} ${NOBODY:?y}", "x 1.4.2 y"),
            ("${WITH-DASH}", "dashed"),
            // Lengths and parts.
            ("${#TAG} ${#Word} ${#NOBODY}", "5 5 0"),
            ("${TAG:2} ${TAG:2:1} ${TAG:9} ${TAG:9:1} ${TAG:1:99}", "4.2 4   .4.2"),
            ("${Word:2:2} ${TAG:x} ${TAG:1:x} ${TAG:${N}}", "Üß 1.4.2 1.4.2 4.2"),
            ("${TAG:0-3} ${Word: -2}", "1.4.2 grÜße"),
            ("${TAG:${NOBODY:--3}:2}", "4."),
            // Cases.
            ("${Word^} ${Word^^} ${Word,} ${Word,,}", "GrÜße GRÜSSE grÜße grüße"),
            ("${EMPTY^}${EMPTY,,}", ""),
            // Ends that are cut off.
            ("${FILE#*/} ${FILE##*/}", "srv/files/report.tar.gz report.tar.gz"),
            ("${FILE%.*} ${FILE%%.*}", "/srv/files/report.tar /srv/files/report"),
            ("${TAG#1.} ${TAG#2.} ${TAG%.?} ${TAG%[0-1]}", "4.2 1.4.2 1.4 1.4.2"),
            ("${FILE#/${NOBODY:-srv}}", "/files/report.tar.gz"),
            // Texts that are replaced, which are no patterns.
            ("${TAG/./-} ${TAG//./-} ${TAG/./} ${TAG//.}", "1-4.2 1-4-2 14.2 142"),
            ("${TAG/#1/2} ${TAG/#4/2} ${TAG/%2/3} ${TAG/%4/3}", "2.4.2 1.4.2 1.4.3 1.4.2"),
            (r"${FILE//\//-}", "-srv-files-report.tar.gz"),
            ("${TAG/*/x} ${TAG//${N}/n}", "1.4.2 1.4.n"),
            // What stands for itself.
            ("$TAG $ {TAG} {TAG} 5$", "$TAG $ {TAG} {TAG} 5$"),
            ("$${TAG} $$TAG $$$$", "${TAG} $TAG $$"),
            (r"a\/b c\\d e\n", r"a/b c\d e\n"),
            ("", ""),
        ];
        for (text, expected) in table {
            assert_eq!(with(text, &VARIABLES).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_understood_says_where_it_begins() {
        for (text, at) in [
            ("a: ${", 3),
            ("a: ${}", 3),
            ("a: ${ TAG}", 3),
            ("a: ${TAG", 3),
            ("a: ${TAG!}", 3),
            ("a: ${TAG:-x", 3),
            ("a: ${TAG:-${x}", 3),
            ("a: ${TAG:-${x!}}", 10),
            ("é ${TAG/a/b", 3),
            ("${TAG^^^}", 0),
            ("${#}", 0),
        ] {
            assert_eq!(with(text, &VARIABLES).unwrap_err().at, at, "{text}");
        }
    }

    #[test]
    fn neither_depth_nor_length_is_without_a_bound() {
        let deep = "${A:-".repeat(1_000) + &"}".repeat(1_000);
        assert_eq!(with(&deep, &[]).unwrap_err().reason, "there are too many `${` within each other");
        let long = "x".repeat(1 << 20);
        assert_eq!(
            with(&"${A}".repeat(5), &[("A", &long)]).unwrap_err().reason,
            "what comes of it is too long"
        );
        assert!(with("${A#*}", &[("A", &long)]).is_err());
    }

    #[test]
    fn what_is_put_between_all_letters_is_measured_before_it_is_made() {
        let long = "x".repeat(1 << 20);
        for text in ["${A///${A}}", "${A//x/${A}}", "${A//x/${A//x/${A}}}", "${A/#/${A//x/xxxxx}}"] {
            assert_eq!(with(text, &[("A", &long)]).unwrap_err().reason, TOO_LONG, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_text_without_signs_is_left_alone(text in r"[^$\\]*") {
            prop_assert_eq!(with(&text, &VARIABLES).unwrap(), text);
        }

        #[test]
        fn a_value_is_put_in_as_it_is(before in "[a-z: \n]*", value in ".*", after in "[a-z: \n]*") {
            let text = format!("{before}${{V}}{after}");
            prop_assert_eq!(with(&text, &[("V", &value)]).unwrap(), format!("{before}{value}{after}"));
        }

        #[test]
        fn a_doubled_sign_says_the_text_itself(text in "[a-zA-Z{}$:-]*") {
            prop_assert_eq!(with(&text.replace('$', "$$"), &VARIABLES).unwrap(), text);
        }

        #[test]
        fn parts_and_ends_are_of_the_value(value in ".{0,20}", from in -25i64..25, length in 0usize..25) {
            let numbers = [("F", from.to_string()), ("L", length.to_string())];
            let variables = [("V", value.as_str()), (numbers[0].0, &numbers[0].1), (numbers[1].0, &numbers[1].1)];
            let part = with("${V:${F}:${L}}", &variables).unwrap();
            prop_assert!(value.contains(&part) && part.chars().count() <= length);
            let (end, start) = (with("${V#*.}", &variables).unwrap(), with("${V%%.*}", &variables).unwrap());
            prop_assert!(value.ends_with(&end) && value.starts_with(&start));
        }

        #[test]
        fn a_replacement_is_refused_if_it_would_be_too_long_and_only_then(
            value in "[abé]{0,8}", from in "[ab]{0,2}", to in "[abé]{0,5}",
            how in prop::sample::select(vec![None, Some("/"), Some("#"), Some("%")]), bytes_max in 0usize..40,
        ) {
            let unbounded = replaced(value.clone(), how, &from, &to, usize::MAX).unwrap();
            let bounded = replaced(value, how, &from, &to, bytes_max);
            prop_assert_eq!(bounded, Some(unbounded).filter(|text| text.len() <= bytes_max));
        }

        #[test]
        fn nothing_that_comes_of_a_text_is_over_the_bound(
            operations in prop::collection::vec(prop::sample::select(vec!["///", "//a/", "/#/", "/%/", ":-"]), 0..6),
            value in "[aΐ]{0,8}", bytes_max in 0usize..64,
        ) {
            let text = operations.iter().fold("${V}".to_owned(), |inner, operation| format!("${{V{operation}{inner}}}"));
            match substitute_within(&text, &|_| Some(value.clone()), bytes_max) {
                Ok(result) => prop_assert!(result.len() <= bytes_max),
                Err(bad) => prop_assert_eq!(bad.reason, TOO_LONG),
            }
        }

        #[test]
        fn any_text_is_an_answer_or_an_error(text in r"[$\{\}\\/:#%^,a-]{0,30}") {
            let _ = with(&text, &[("a", "value/of:a")]);
        }
    }
}
