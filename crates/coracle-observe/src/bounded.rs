//! Texts that strangers wrote, cut to a bound and marked as cut.
//! Log lines, paths and messages of failed calls pass through here before they are kept.

/// What stands where a text was cut.
const MARK: &str = "…";

/// Cuts `text` so that it takes at most `bytes_max` bytes, the mark included.
pub(crate) fn cut(text: &mut String, bytes_max: usize) {
    if text.len() <= bytes_max {
        return;
    }
    let end = text.floor_char_boundary(bytes_max.saturating_sub(MARK.len()));
    text.truncate(end);
    text.push_str(MARK);
    // What was cut off must not be kept in memory.
    text.shrink_to_fit();
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_text_within_its_bound_is_left_alone() {
        let mut text = "né".to_owned();
        cut(&mut text, 3);
        assert_eq!(text, "né");
    }

    proptest! {
        #[test]
        fn a_longer_text_keeps_its_beginning_and_gets_a_mark(text in "\\PC{20,60}", bytes_max in 3_usize..20) {
            let mut short = text.clone();
            cut(&mut short, bytes_max);
            prop_assert!(short.len() <= bytes_max);
            let kept = short.strip_suffix(MARK).expect("a mark");
            prop_assert!(text.starts_with(kept));
        }
    }
}
