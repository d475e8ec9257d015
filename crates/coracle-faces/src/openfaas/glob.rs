//! Patterns of a shell, matched against a whole text: `*`, `?`, `[a-z]`, and `\` before what stands for itself.
//! `envsubst.rs` trims values with them, `stack.rs` chooses functions by name.

/// Whether a pattern fits all of a text.
pub(super) fn fits(pattern: &str, text: &str) -> bool {
    let (mut pattern, mut text) = (pattern, text);
    // Where the last star was, and what it has not taken yet.
    let mut star: Option<(&str, &str)> = None;
    loop {
        if let Some(rest) = pattern.strip_prefix('*') {
            star = Some((rest, text));
            pattern = rest;
            continue;
        }
        match (one(pattern, text), star) {
            _ if pattern.is_empty() && text.is_empty() => return true,
            (Some((pattern_rest, text_rest)), _) => (pattern, text) = (pattern_rest, text_rest),
            // The star takes one more.
            (None, Some((after, taken))) => {
                let mut taken = taken.chars();
                if taken.next().is_none() {
                    return false;
                }
                (pattern, text) = (after, taken.as_str());
                star = Some((after, text));
            }
            (None, None) => return false,
        }
    }
}

/// What is left when the first piece of a pattern fits the first character of a text.
fn one<'p, 't>(pattern: &'p str, text: &'t str) -> Option<(&'p str, &'t str)> {
    let mut text = text.chars();
    let letter = text.next()?;
    let mut rest = pattern.chars();
    let fits = match rest.next()? {
        '?' => true,
        '[' => match class(rest.as_str(), letter) {
            Some((fits, after)) => {
                rest = after.chars();
                fits
            }
            // A bracket that nothing closes is itself.
            None => letter == '[',
        },
        '\\' => letter == rest.next().unwrap_or('\\'),
        plain => letter == plain,
    };
    fits.then_some((rest.as_str(), text.as_str()))
}

/// Whether a letter is in the class that begins here, and what follows it.
fn class(text: &str, letter: char) -> Option<(bool, &str)> {
    let (is_negated, text) = match text.strip_prefix(['!', '^']) {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    // A bracket that stands first belongs to the class.
    let end = text.char_indices().skip(1).find(|(_, c)| *c == ']')?.0;
    let mut members = text[..end].chars();
    let mut is_in = false;
    while let Some(first) = members.next() {
        let mut ahead = members.clone();
        let last = match (ahead.next(), ahead.next()) {
            (Some('-'), Some(last)) => {
                members = ahead;
                last
            }
            _ => first,
        };
        is_in |= (first..=last).contains(&letter);
    }
    Some((is_in != is_negated, &text[end + 1..]))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_fits_as_it_does_in_a_shell() {
        let table: [(&str, &[&str], &[&str]); 12] = [
            ("", &[""], &["a"]),
            ("abc", &["abc"], &["ab", "abcd", "Abc"]),
            ("*", &["", "a", "a/b"], &[]),
            ("a*", &["a", "ab"], &["ba", ""]),
            ("*-worker", &["a-worker", "-worker", "a-worker-worker"], &["worker", "a-workers"]),
            ("a*b*c", &["abc", "aXbXbc"], &["ab", "acb"]),
            ("?", &["a", "é"], &["", "ab"]),
            ("v[0-9]", &["v1"], &["va", "v12"]),
            ("[!a-c-]", &["d", "é"], &["b", "-"]),
            ("[]x]", &["]", "x"], &["["]),
            ("a[b", &["a[b"], &["ab"]),
            (r"\*\?", &["*?"], &["ab"]),
        ];
        for (pattern, fitting, others) in table {
            for text in fitting {
                assert!(fits(pattern, text), "{pattern} should fit {text:?}");
            }
            for text in others {
                assert!(!fits(pattern, text), "{pattern} should not fit {text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_text_without_signs_fits_itself_alone(text in "[a-zé/. -]{0,12}", other in "[a-zé/. -]{0,12}") {
            prop_assert!(fits(&text, &text));
            prop_assert_eq!(fits(&text, &other), text == other);
        }

        #[test]
        fn stars_fit_whatever_has_the_pieces_in_order(pieces in prop::collection::vec("[ab]{0,3}", 1..5), between in "[ab]{0,3}") {
            prop_assert!(fits(&pieces.join("*"), &pieces.join(&between)));
        }

        #[test]
        fn any_pattern_comes_to_an_end(pattern in r"[\[\]*?a!^\\-]{0,12}", text in "[a\\]\\[]{0,12}") {
            let _ = fits(&pattern, &text);
        }
    }
}
