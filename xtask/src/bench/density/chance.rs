//! Chance from a seed, so that every run calls the same functions in the same order.
//! `density.rs` shuffles with it, and draws the functions of a load.

/// A generator of numbers that look random: SplitMix64.
#[derive(Debug)]
pub(super) struct Chance(u64);

impl Chance {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 up to and without 1.
    fn unit(&mut self) -> f64 {
        // As many bits as a float of this size keeps.
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// All numbers below `count`, in an order of chance.
    pub(super) fn order(&mut self, count: usize) -> Vec<usize> {
        let mut order: Vec<usize> = (0..count).collect();
        for last in (1..count).rev() {
            let other = (self.unit() * (last + 1) as f64) as usize;
            order.swap(last, other);
        }
        order
    }
}

/// Zipf's law: the one of rank `r` is drawn in proportion to `1 / r`, as words are in a text.
#[derive(Debug)]
pub(super) struct Zipf {
    /// For each rank, the weights of it and of those before it.
    until: Vec<f64>,
}

impl Zipf {
    /// Over so many, of which there is at least one.
    pub(super) fn over(count: usize) -> Self {
        let weight = |sum: &mut f64, rank: usize| {
            *sum += 1.0 / rank as f64;
            Some(*sum)
        };
        Self { until: (1..=count).scan(0.0, weight).collect() }
    }

    /// One of them, counted from 0.
    pub(super) fn draw(&self, chance: &mut Chance) -> usize {
        let all = self.until.last().copied().unwrap_or_default();
        let drawn = chance.unit() * all;
        self.until.partition_point(|until| *until <= drawn).min(self.until.len() - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_has_everyone_once_and_is_the_same_for_the_same_seed() {
        let order = Chance::new(7).order(1_000);
        assert_eq!(order, Chance::new(7).order(1_000));
        assert_ne!(order, Chance::new(8).order(1_000));
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..1_000).collect::<Vec<_>>());
        assert_ne!(order, sorted);
    }

    #[test]
    fn the_second_is_drawn_half_as_often_as_the_first() {
        let (zipf, mut chance) = (Zipf::over(100), Chance::new(1));
        let mut drawn = [0_u32; 100];
        for _ in 0..100_000 {
            drawn[zipf.draw(&mut chance)] += 1;
        }
        // One of 5.187, the sum of all weights, is the first's: some 19,300.
        assert!((19_000..19_600).contains(&drawn[0]), "{drawn:?}");
        assert!((9_400..9_900).contains(&drawn[1]), "{drawn:?}");
        assert!(drawn[99] > 0);
    }
}
