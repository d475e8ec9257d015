//! What code is and needs, read off its bytes: before it is compiled, and without trusting it.
//! The compile process calls it; what it refuses says what the code has and what it would need.

use coracle_model::{Contract, Problem, code};
use wasmparser::{Encoding, Parser, Payload};

/// What code is.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Inspected {
    /// How it is spoken to.
    pub(super) contract: Contract,
    /// Whether it is a core module that must be wrapped into a component.
    pub(super) is_core: bool,
    /// The interfaces it imports.
    pub(super) imports: Vec<String>,
}

/// Interfaces that are provided, of any version that is compatible with the one named.
///
/// Sockets and files are there because languages' standard libraries import them; they open nothing.
const PROVIDED: [(&str, (u64, u64)); 12] = [
    ("wasi:io", (0, 2)),
    ("wasi:clocks", (0, 2)),
    ("wasi:random", (0, 2)),
    ("wasi:cli", (0, 2)),
    ("wasi:filesystem", (0, 2)),
    ("wasi:sockets", (0, 2)),
    ("wasi:http/types", (0, 2)),
    ("wasi:http/outgoing-handler", (0, 2)),
    ("wasi:http/proxy", (0, 2)),
    ("wasi:cli/imports", (0, 2)),
    ("wasi:clocks/imports", (0, 2)),
    ("wasi:random/imports", (0, 2)),
];

const HANDLER: &str = "wasi:http/incoming-handler";
const COMMAND: &str = "wasi:cli/run";
const CORE_WASI: &str = "wasi_snapshot_preview1";

/// Looks at code, and says what it is or why it cannot be a function.
///
/// # Errors
/// A problem with a code of its own for each reason.
pub(super) fn inspect(wasm: &[u8]) -> Result<Inspected, Problem> {
    if wasmtime::Engine::detect_precompiled(wasm).is_some() || wasm.starts_with(b"\x7fELF") {
        return Err(Problem::new(&code::PRECOMPILED_WASM, "the file is compiled code, not WebAssembly")
            .hint("deploy the .wasm file it was compiled from: Coracle compiles it itself"));
    }
    let invalid = |error: wasmparser::BinaryReaderError| {
        Problem::new(
            &code::INVALID_WASM,
            format!("the file is not valid WebAssembly: {} (at byte {})", error.message(), error.offset()),
        )
        .hint("deploy the output of your build, a file that begins with the bytes `00 61 73 6d`")
    };
    if wasm.is_empty() {
        return Err(Problem::new(&code::INVALID_WASM, "the file is empty"));
    }
    if !wasm.starts_with(b"\0asm") {
        return Err(Problem::new(
            &code::INVALID_WASM,
            "the file is not WebAssembly: it does not begin as such a file does",
        )
        .hint("deploy the output of your build, a file that begins with the bytes `00 61 73 6d`"));
    }
    let surface = Surface::read(wasm).map_err(invalid)?;
    surface.judge()
}

/// What code shows to the outside.
#[derive(Debug, Default)]
struct Surface {
    is_core: bool,
    imports: Vec<String>,
    exports: Vec<String>,
}

impl Surface {
    fn read(wasm: &[u8]) -> Result<Self, wasmparser::BinaryReaderError> {
        let mut surface = Self::default();
        let mut depth = 0_usize;
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::Version { encoding, .. } => {
                    depth += 1;
                    if depth == 1 {
                        surface.is_core = encoding == Encoding::Module;
                    }
                }
                Payload::End(_) => depth = depth.saturating_sub(1),
                Payload::ComponentImportSection(section) if depth == 1 => {
                    for import in section {
                        surface.imports.push(import?.name.name.to_owned());
                    }
                }
                Payload::ComponentExportSection(section) if depth == 1 => {
                    for export in section {
                        surface.exports.push(export?.name.name.to_owned());
                    }
                }
                Payload::ImportSection(section) if depth == 1 => {
                    for import in section.into_imports() {
                        let module = import?.module.to_owned();
                        if !surface.imports.contains(&module) {
                            surface.imports.push(module);
                        }
                    }
                }
                Payload::ExportSection(section) if depth == 1 => {
                    for export in section {
                        surface.exports.push(export?.name.to_owned());
                    }
                }
                _ => {}
            }
        }
        Ok(surface)
    }

    fn judge(self) -> Result<Inspected, Problem> {
        let contract = self.contract()?;
        if let Some(unknown) = self.imports.iter().find(|import| !self.is_provided(import)) {
            return Err(unknown_import(unknown));
        }
        Ok(Inspected { contract, is_core: self.is_core, imports: self.imports })
    }

    fn contract(&self) -> Result<Contract, Problem> {
        let exports = |wanted| self.exports.iter().any(|name| fits(name, wanted, (0, 2)));
        if self.is_core {
            return if self.exports.iter().any(|name| name == "_start") {
                Ok(Contract::Stdio)
            } else {
                Err(self.nothing_to_call())
            };
        }
        if exports(HANDLER) {
            Ok(Contract::Component)
        } else if exports(COMMAND) {
            Ok(Contract::Stdio)
        } else {
            Err(self.nothing_to_call())
        }
    }

    fn is_provided(&self, import: &str) -> bool {
        if self.is_core {
            return import == CORE_WASI;
        }
        PROVIDED.iter().any(|(name, version)| fits(import, name, *version))
    }

    fn nothing_to_call(&self) -> Problem {
        let kind = if self.is_core { "core module" } else { "component" };
        let shown = match self.exports.len() {
            0 => "nothing".to_owned(),
            count => {
                let some: Vec<_> = self.exports.iter().take(5).map(|name| format!("`{name}`")).collect();
                format!("{}{}", some.join(", "), if count > 5 { ", …" } else { "" })
            }
        };
        let newer = self.exports.iter().any(|name| name.starts_with("wasi:http/handler@0.3"));
        let hint = if newer {
            "this version of Coracle speaks wasi:http 0.2: build for wasm32-wasip2"
        } else if self.is_core {
            "a core module needs `_start` (build a program, not a library), or make it a component that exports `wasi:http/incoming-handler`"
        } else {
            "a function exports `wasi:http/incoming-handler@0.2` (or `wasi:cli/run@0.2`, a program): see `coracle explain unsupported-contract`"
        };
        Problem::new(
            &code::UNSUPPORTED_CONTRACT,
            format!("the {kind} exports {shown}, which Coracle cannot call"),
        )
        .hint(hint)
    }
}

fn unknown_import(import: &str) -> Problem {
    let hint = if import.starts_with("wasi:http/") || import.starts_with("wasi:") && import.contains("@0.3") {
        "this version of Coracle provides WASI 0.2: build for wasm32-wasip2"
    } else if import.starts_with("fermyon:")
        || import.starts_with("spin:")
        || import.starts_with("wasi:keyvalue")
    {
        "this version of Coracle provides WASI 0.2 alone, and no key-value store, database or configuration interface"
    } else {
        "compose the component with one that exports this interface, or remove what needs it"
    };
    Problem::new(&code::UNKNOWN_IMPORT, format!("the code imports `{import}`, which nothing provides"))
        .hint(hint)
}

/// Whether `name`, as in `wasi:io/streams@0.2.3`, is an interface of `wanted` in a compatible version.
fn fits(name: &str, wanted: &str, version: (u64, u64)) -> bool {
    let Some((interface, at)) = name.split_once('@') else { return false };
    let mut numbers = at.split('.').map(str::parse::<u64>);
    let same_version = matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) == version);
    let same_name =
        interface == wanted || interface.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('/'));
    same_version && same_name
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(is_core: bool, imports: &[&str], exports: &[&str]) -> Result<Contract, (&'static str, String)> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let surface = Surface { is_core, imports: own(imports), exports: own(exports) };
        surface
            .judge()
            .map(|inspected| inspected.contract)
            .map_err(|problem| (problem.code.name, problem.message))
    }

    #[test]
    fn a_function_is_known_by_what_it_exports() {
        assert_eq!(
            judge(false, &["wasi:io/streams@0.2.3"], &["wasi:http/incoming-handler@0.2.12"]),
            Ok(Contract::Component)
        );
        assert_eq!(judge(false, &[], &["wasi:cli/run@0.2.0"]), Ok(Contract::Stdio));
        assert_eq!(judge(true, &["wasi_snapshot_preview1"], &["memory", "_start"]), Ok(Contract::Stdio));
    }

    #[test]
    fn what_cannot_be_called_is_named() {
        let (code, message) = judge(false, &[], &["acme:lib/api@1.0.0"]).unwrap_err();
        assert_eq!(code, "unsupported-contract");
        assert!(message.contains("acme:lib/api@1.0.0"), "{message}");
        assert_eq!(judge(true, &[], &["run"]).unwrap_err().0, "unsupported-contract");
        assert_eq!(judge(false, &[], &["wasi:http/handler@0.3.0"]).unwrap_err().0, "unsupported-contract");
    }

    #[test]
    fn an_import_that_nothing_provides_is_named() {
        let refused =
            |import: &str| judge(false, &[import], &["wasi:http/incoming-handler@0.2.0"]).unwrap_err();
        for import in [
            "acme:widgets/thing@1.0.0",
            "wasi:keyvalue/store@0.2.0-draft",
            "wasi:io/streams@0.3.0",
            "wasi:iox/streams@0.2.0",
            "bare",
        ] {
            let (code, message) = refused(import);
            assert_eq!(code, "unknown-import", "{import}");
            assert!(message.contains(import), "{message}");
        }
        assert_eq!(judge(true, &["env"], &["_start"]).unwrap_err().0, "unknown-import");
    }

    #[test]
    fn compiled_code_and_nonsense_are_told_apart() {
        let code = |bytes: &[u8]| inspect(bytes).unwrap_err().code.name;
        assert_eq!(code(b"\x7fELF\x02\x01\x01"), "precompiled-wasm");
        assert_eq!(code(b""), "invalid-wasm");
        assert_eq!(code(b"#!/bin/sh"), "invalid-wasm");
        assert_eq!(code(b"\0asm\x01\0\0\0\xff"), "invalid-wasm");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_code_or_an_error(mut bytes: Vec<u8>, core: bool) {
            let _ = inspect(&bytes);
            let mut wasm = if core { b"\0asm\x01\0\0\0".to_vec() } else { b"\0asm\x0d\0\x01\0".to_vec() };
            wasm.append(&mut bytes);
            let _ = inspect(&wasm);
        }
    }
}
