//! Every way a Skein operation can fail, as a user sees it.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

macro_rules! codes {
    ($($(#[doc = $doc:literal])+ $variant:ident $text:literal $status:literal $exit:literal $advice:literal;)+) => {
        /// A stable code for one kind of failure. `skein explain CODE` prints its page.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorCode { $($(#[doc = $doc])+ $variant,)+ }

        impl ErrorCode {
            /// All codes, in the order of their listing.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant,)+];

            /// The stable text of the code, as in problem details and `--json` output.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The HTTP status that answers it (RFC 9110).
            pub fn http_status(self) -> u16 {
                match self { $(Self::$variant => $status,)+ }
            }

            /// The exit code of a `skein` command that ends with it.
            pub fn exit_code(self) -> u8 {
                match self { $(Self::$variant => $exit,)+ }
            }

            /// What it means, in a sentence or two.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+).trim_ascii(),)+ }
            }

            /// What the user should do next.
            pub fn advice(self) -> &'static str {
                match self { $(Self::$variant => $advice,)+ }
            }
        }
    };
}

codes! {
    /// The request is not of the form the operation takes.
    BadRequest "bad-request" 400 2 "Correct the request as the message says; the README and `--help` show the forms.";
    /// No key was shown, or the one shown is unknown, expired or revoked.
    Unauthenticated "unauthenticated" 401 1 "Send `Authorization: Bearer KEY` with a key from `skein key create`, or choose the right context with `skein context use`.";
    /// The key is good but does not allow this.
    Forbidden "forbidden" 403 1 "Use a key whose role and app allow it; an administrator makes one with `skein key create`.";
    /// No such function, or it was deleted.
    FunctionNotFound "function-not-found" 404 1 "Check the name with `skein functions`; publish it with `skein publish`.";
    /// The function has no such version.
    VersionNotFound "version-not-found" 404 1 "List the versions with `skein versions REF`.";
    /// The function has no such alias.
    AliasNotFound "alias-not-found" 404 1 "List the aliases with `skein function show REF`; set one with `skein alias set`.";
    /// No such thing: a node, key, token, artifact or route.
    NotFound "not-found" 404 1 "Check the name against the matching listing command, or the path of the file.";
    /// The state is not the one the operation was told to expect, or the name is taken.
    Conflict "conflict" 409 1 "Look at the current state and repeat the operation if it still makes sense.";
    /// The payload, artifact or another input is over its limit.
    TooLarge "too-large" 413 1 "Send less, or raise the limit the message names.";
    /// The code cannot be run: not WebAssembly, truncated, or asking for what Skein does not offer.
    BadModule "bad-module" 422 1 "Rebuild the module as the message says; docs/abi.md lists what a function may be.";
    /// The function's settings are wrong: an unknown key, a value out of range.
    BadManifest "bad-manifest" 422 1 "Correct `function.toml` as the message says.";
    /// There is no room for the call now: the function is at its limit and its waiting line is full, or the node is short of memory or threads.
    Overloaded "overloaded" 429 1 "Retry after the delay given; if it stays so, raise what the message names: `limits.concurrency`, or the node's `--memory`.";
    /// The function ended with an error of its own: a non-zero exit code.
    FunctionFailed "function-failed" 502 1 "Read the function's message and log; the platform did its part.";
    /// The function trapped: it did what WebAssembly forbids.
    FunctionTrapped "function-trapped" 502 1 "Read the trap's name in the message; it is a bug in the function or its toolchain's panic.";
    /// The function asked for more memory than its limit.
    MemoryExceeded "memory-exceeded" 502 1 "Raise `limits.memory` in function.toml, or use less memory.";
    /// The function wrote more than the limit of its result or log.
    OutputExceeded "output-exceeded" 502 1 "Return less, or raise `limits.payload` in function.toml.";
    /// The function computed for longer than its CPU budget and was stopped.
    CpuExceeded "cpu-exceeded" 502 1 "Raise `limits.cpu` in function.toml, or make the function compute less.";
    /// The function used more of something than its limit: calls of others, open files, a call chain's depth.
    LimitExceeded "limit-exceeded" 502 1 "Raise the limit that the message names in function.toml, or use less of it.";
    /// The function asked for something that its version was not granted.
    NotGranted "not-granted" 403 1 "Grant it in `[grants]` of function.toml, as the message says, and publish again.";
    /// The call did not end by its deadline; a function that was running was stopped.
    DeadlineExceeded "deadline-exceeded" 504 4 "Give a longer `--deadline`, raise `limits.deadline` in function.toml, or make the function faster.";
    /// The caller went away or took the call back, and it was stopped.
    Cancelled "cancelled" 499 1 "Nothing to do: the caller asked for it.";
    /// No node can take the call now.
    Unavailable "unavailable" 503 1 "Look at `skein nodes` and `skein status`; the call may be retried.";
    /// The node is leaving and takes no new work.
    Draining "draining" 503 1 "Call another node; or bring this one back with `skein node resume`.";
    /// The activation is not on this node any more.
    Moved "moved" 503 1 "Nothing to do: the router tries the new place by itself; retry if it gave up.";
    /// The code bytes are on no node that answers.
    ArtifactUnavailable "artifact-unavailable" 503 1 "Bring back a node that has the artifact, or publish the same file again.";
    /// No majority of the voters answers, so nothing may be written.
    NoQuorum "no-quorum" 503 3 "Start the missing voters again (`skein nodes` shows them); functions go on answering meanwhile.";
    /// The node or mesh does not answer.
    Unreachable "unreachable" 503 3 "Check the address and that `skein up` runs there. Commands try the nodes of their context: `skein context ls` shows them.";
    /// The connection broke or an answer stayed away while the operation was under way.
    PeerLost "peer-lost" 503 3 "The operation may or may not have happened: look before you repeat what is not idempotent.";
    /// The other side is not a member of this mesh, or its certificate or token is not one of ours.
    Untrusted "untrusted" 403 1 "Make sure that both sides belong to the same mesh; make a new token with `skein token create`.";
    /// The join token is malformed, unknown, expired, or of another mesh.
    BadToken "bad-token" 401 1 "Make a new one with `skein token create` on a node of the mesh you want to join.";
    /// The other side speaks a protocol version that this one does not.
    ProtocolMismatch "protocol-mismatch" 400 1 "Bring both nodes to releases that overlap; upgrade one node at a time.";
    /// A frame or record could not be read.
    Malformed "malformed" 400 1 "If both sides are Skein this is a bug: please report it with the log.";
    /// An address is already in use.
    AddressInUse "address-in-use" 500 1 "Stop the other program, or choose another port (0 picks a free one).";
    /// Another process uses the data directory.
    DataDirInUse "data-dir-in-use" 500 1 "Stop the other node, or give this one its own `--data`.";
    /// The data directory was written by a newer release.
    DataDirTooNew "data-dir-too-new" 500 1 "Start it with the newer release; downgrades are not possible.";
    /// A stored record does not match its checksum; it is not used.
    CorruptStore "corrupt-store" 500 1 "Take the node off with `skein node remove NAME`, move its data directory away, and let it join with a new token; the mesh has the data.";
    /// The disk has no room.
    DiskFull "disk-full" 507 1 "Free some space; what was acknowledged is safe, and the node takes writes again by itself.";
    /// Something that should not happen did.
    Internal "internal" 500 1 "Please report it, with the log around it.";
}

impl ErrorCode {
    /// The code with this stable text.
    pub fn from_text(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|code| code.as_str() == text)
    }
}

impl std::fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for ErrorCode {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for ErrorCode {
    /// A code that a newer peer knows and this one does not becomes [`ErrorCode::Internal`]: the message still says
    /// what happened.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::from_text(&String::deserialize(deserializer)?).unwrap_or(Self::Internal))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_own_text_a_meaning_and_advice() {
        for (index, code) in ErrorCode::ALL.iter().enumerate() {
            assert_eq!(ErrorCode::from_text(code.as_str()), Some(*code));
            assert_eq!(ErrorCode::ALL.iter().position(|other| other.as_str() == code.as_str()), Some(index));
            assert!(code.meaning().ends_with('.') && code.advice().len() > 10, "{code}");
            assert!((400..600).contains(&code.http_status()) && (1..=4).contains(&code.exit_code()), "{code}");
        }
    }
}
