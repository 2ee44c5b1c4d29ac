//! What a cached file is of, and its name.

use sha2::{Digest as _, Sha256};
use skein_proto::Digest;

use crate::Tier;

/// What a file holds of a module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// Machine code.
    Code(Tier),
    /// The module as it goes to the compiler, until its optimised code is there.
    Source,
    /// What instances start from; one for each key, which says what it depends on besides the module.
    Image([u8; 32]),
}

impl Kind {
    /// How the names of such files end.
    fn extension(self) -> &'static str {
        match self {
            Self::Code(Tier::Optimised) => "elf",
            Self::Code(Tier::Baseline) => "baseline",
            Self::Source => "source",
            Self::Image(_) => "img",
        }
    }

    /// How such files call themselves.
    pub(super) fn label(self) -> [u8; 32] {
        let mut hash = Sha256::new().chain_update(self.extension());
        if let Self::Image(key) = self {
            hash.update(key);
        }
        hash.finalize().into()
    }
}

/// Names one file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    pub(crate) digest: Digest,
    pub(crate) kind: Kind,
}

impl Key {
    pub(crate) fn code(digest: Digest, tier: Tier) -> Self {
        Self { digest, kind: Kind::Code(tier) }
    }

    pub(crate) fn image(digest: Digest, key: [u8; 32]) -> Self {
        Self { digest, kind: Kind::Image(key) }
    }

    pub(crate) fn source(digest: Digest) -> Self {
        Self { digest, kind: Kind::Source }
    }

    /// `DIGEST-FINGERPRINT.KIND`, or `DIGEST-FINGERPRINT.KEY.img`; fingerprint and key are cut short.
    pub(super) fn file_name(self, fingerprint: &[u8; 32]) -> String {
        let key = match self.kind {
            Kind::Image(key) => format!("{}.", short(&key)),
            _ => String::new(),
        };
        format!("{}-{}.{key}{}", self.digest.to_hex(), short(fingerprint), self.kind.extension())
    }

    /// The module that a file of this name is of, whatever its fingerprint; none if the name is not one of ours.
    pub(super) fn digest_in(name: &str) -> Option<Digest> {
        let (stem, extension) = name.rsplit_once('.')?;
        let is_ours = ["elf", "baseline", "source", "img"].contains(&extension);
        let (digest, _) = stem.split_once('-').filter(|_| is_ours)?;
        format!("sha256:{digest}").parse().ok()
    }
}

fn short(hash: &[u8; 32]) -> String {
    hash[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}
