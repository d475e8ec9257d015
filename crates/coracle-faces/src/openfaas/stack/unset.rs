//! What a variable that nobody set has to do with a mistake of a stack file.
//! `stack.rs` asks it about every mistake, as an empty text is seldom what was meant.

use super::Invalid;

/// The mistake, with the variable of its line that is empty as what to do about it.
pub(super) fn named(invalid: Invalid, text: &str, value_of: &dyn Fn(&str) -> Option<String>) -> Invalid {
    let Some((line, _)) = invalid.place else { return invalid };
    let lines = || text.lines().skip(line - 1);
    let here = lines().next().and_then(|line| unset(line, value_of));
    // A name is all there is to point at where its image is empty.
    let below = || {
        let image = lines().skip(1).find(|line| line.trim_start().starts_with("image:"))?;
        unset(image, value_of).filter(|_| invalid.message.contains("`image`"))
    };
    match here.or_else(below) {
        Some(name) => {
            let how = if value_of(name).is_some() { "empty" } else { "not set" };
            invalid.hint(format!("`{name}` is {how}: set it, or write a default as in `${{{name}:-1.0}}`"))
        }
        None => invalid,
    }
}

/// The first variable of a line that stands alone between its braces, and is empty.
fn unset<'l>(line: &'l str, value_of: &dyn Fn(&str) -> Option<String>) -> Option<&'l str> {
    let begins = line.match_indices("${").filter(|(at, _)| !line[..*at].ends_with('$'));
    let mut names =
        begins.filter_map(|(at, sign)| line[at + sign.len()..].split_once('}').map(|(name, _)| name));
    let is_name = |name: &str| name.chars().all(|c| c.is_alphanumeric() || c == '_' || c == '-');
    names.find(|name| is_name(name) && value_of(name).is_none_or(|value| value.is_empty()))
}
