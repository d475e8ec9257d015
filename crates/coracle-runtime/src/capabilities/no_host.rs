//! Words in which programs say that they found no host.
//! Most know nothing of grants, and take a name that was not granted for a broken network; `output` tells them apart for the reader.

/// What is said where a program speaks so.
pub(crate) const HINT: &str = "it reaches no host that it was not granted: add what it needs to `outbound`, \
                               or to the annotation `coracle.outbound` of a stack file; see `coracle explain outbound-denied`";

/// What the resolvers and the networks of common languages say, in lower case.
const WORDS: [&str; 12] = [
    // The GNU and the BSD C libraries, and all that ask them.
    "name or service not known",
    "temporary failure in name resolution",
    "nodename nor servname provided",
    "name does not resolve",
    "network is unreachable",
    // Busybox, curl, Go, Rust, Node.js, the JVM.
    "bad address",
    "could not resolve host",
    "no such host",
    "failed to lookup address",
    "enotfound",
    "eai_again",
    "unknownhostexception",
];

/// Whether a line tells of a host that was not found or not reached.
pub(crate) fn is_told_by(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    WORDS.iter().any(|words| line.contains(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_of_many_languages_are_understood() {
        let table = [
            ("urllib.error.URLError: <urlopen error [Errno -2] Name or service not known>", true),
            ("curl: (6) Could not resolve host: api.example.com", true),
            ("wget: bad address 'api.example.com'", true),
            ("dial tcp: lookup api.example.com: no such host", true),
            ("Error: getaddrinfo ENOTFOUND api.example.com", true),
            ("OSError: [Errno 101] Network is unreachable", true),
            ("java.net.UnknownHostException: api.example.com", true),
            ("hello", false),
            ("KeyError: 'host'", false),
        ];
        for (line, expected) in table {
            assert_eq!(is_told_by(line), expected, "{line}");
        }
    }
}
