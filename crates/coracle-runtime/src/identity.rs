//! Random bits for the identities of calls and spans.
//! Drawn from the kernel in blocks, one a thread: a system call for each would cost more than the call path can spare.

use std::cell::RefCell;

const BLOCK_WORDS: usize = 64;

thread_local! {
    static BLOCK: RefCell<(usize, [u64; BLOCK_WORDS])> = const { RefCell::new((BLOCK_WORDS, [0; BLOCK_WORDS])) };
}

/// 64 bits that nobody can foresee.
pub fn random_bits() -> u64 {
    BLOCK.with_borrow_mut(|(next, block)| {
        if *next == BLOCK_WORDS {
            let mut bytes = [0; BLOCK_WORDS * 8];
            getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
            for (word, chunk) in block.iter_mut().zip(bytes.as_chunks::<8>().0) {
                *word = u64::from_ne_bytes(*chunk);
            }
            *next = 0;
        }
        let word = std::mem::take(&mut block[*next]);
        *next += 1;
        word
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_bits_come_twice() {
        let drawn: std::collections::HashSet<u64> = (0..1_000).map(|_| super::random_bits()).collect();
        assert_eq!(drawn.len(), 1_000);
    }
}
