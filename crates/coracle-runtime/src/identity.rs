//! Random bits for the identities of calls and spans.
//! Drawn from a generator of each thread's own, which the kernel seeds: asking the kernel each time costs more than the call path can spare.

/// 64 bits that nobody can foresee.
pub fn random_bits() -> u64 {
    rand::random()
}

/// 128 bits that nobody can foresee.
pub fn random_128() -> u128 {
    rand::random()
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_bits_come_twice() {
        let drawn: std::collections::HashSet<u64> = (0..1_000).map(|_| super::random_bits()).collect();
        assert_eq!(drawn.len(), 1_000);
    }
}
