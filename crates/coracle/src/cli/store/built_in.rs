//! The functions that come with the binary, so that none of them needs a toolchain or a network.
//! `coracle store` offers them, and `coracle up --demo` deploys some.

/// What they are and how they are run, as a store says it.
pub(super) const STORE: &str = include_str!("../../../../../examples/store.toml");

macro_rules! files {
    ($($path:literal),* $(,)?) => {
        /// Their code, by its path in `examples`.
        const FILES: &[(&str, &[u8])] =
            &[$(($path, include_bytes!(concat!("../../../../../examples/", $path)))),*];
    };
}

files![
    "banner/banner.wasm",
    "csv-json/csv-json.wasm",
    "hello/hello.wasm",
    "markdown/markdown.wasm",
    "qrcode/qrcode.wasm",
    "resize/resize.wasm",
    "sse/sse.wasm",
    "sysinfo/sysinfo.sh",
];

/// The code at a path in `examples`.
pub(in crate::cli) fn file(path: &str) -> Option<&'static [u8]> {
    FILES.iter().find(|(known, _)| *known == path).map(|(_, bytes)| *bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::{Source, store};

    #[test]
    fn what_the_store_offers_is_part_of_the_binary() {
        let offers = store::parse("store.toml", STORE).unwrap();
        assert_eq!(offers.len(), 6);
        for offer in offers {
            let Source::Path(path) = &offer.function.source else { panic!("an image is not part of us") };
            assert!(file(path.to_str().unwrap()).is_some_and(|code| !code.is_empty()), "{}", path.display());
            assert!(offer.title.is_some() && offer.description.is_some(), "{}", offer.function.name);
            assert!(offer.example.is_some_and(|example| example.contains("URL")), "{}", offer.function.name);
        }
    }
}
