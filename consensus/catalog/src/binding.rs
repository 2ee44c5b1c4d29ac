//! Where the functions of an app may run: labels that a node must carry, and names that it may bear. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};
use skein_proto::NodeName;

use crate::Member;

/// A selection of nodes. A node is in it if it carries every label of `labels`, with that value, and is one of `nodes`,
/// where any are named. So the empty one, the default, is all nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Binding {
    /// Labels that a node must carry, as `skein up --label` gave them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Names, one of which a node must bear; if empty, any.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub nodes: BTreeSet<NodeName>,
}

impl Binding {
    /// Whether it selects all nodes.
    pub fn is_anywhere(&self) -> bool {
        self.labels.is_empty() && self.nodes.is_empty()
    }

    /// Whether `member` is among the nodes it selects.
    pub fn allows(&self, member: &Member) -> bool {
        (self.nodes.is_empty() || self.nodes.contains(&member.name))
            && self.labels.iter().all(|(key, value)| member.labels.get(key) == Some(value))
    }

    /// Says what of it no catalogue keeps, if something is.
    pub fn check(&self) -> Result<(), String> {
        check_labels(&self.labels)?;
        if self.nodes.len() > NODES_MAX {
            return Err(format!("{} nodes are named; at most {NODES_MAX} may be: give them a label", self.nodes.len()));
        }
        Ok(())
    }
}

impl fmt::Display for Binding {
    /// `nodes with zone=eu, of n1 and n2`; for people, after "bound to".
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_anywhere() {
            return f.write_str("all nodes");
        }
        let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let nodes: Vec<&str> = self.nodes.iter().map(NodeName::as_str).collect();
        match (labels.is_empty(), nodes.is_empty()) {
            (false, true) => write!(f, "nodes with {}", labels.join(" and ")),
            (true, _) => write!(f, "{}", nodes.join(", ")),
            (false, false) => write!(f, "those of {} with {}", nodes.join(", "), labels.join(" and ")),
        }
    }
}

/// Says what is wrong with these labels of a node, if something is: their number, a key, a value.
pub fn check_labels(labels: &BTreeMap<String, String>) -> Result<(), String> {
    if labels.len() > LABELS_MAX {
        return Err(format!("{} labels are given; at most {LABELS_MAX} may be", labels.len()));
    }
    let is_visible = |text: &str| text.len() <= LABEL_BYTES_MAX && text.bytes().all(|byte| byte.is_ascii_graphic());
    for (key, value) in labels {
        if key.is_empty() || key.contains('=') || !is_visible(key) || !is_visible(value) {
            let key: String = key.chars().take(LABEL_BYTES_MAX).collect();
            return Err(format!(
                "the label `{key}` is not of the form KEY=VALUE, each of at most {LABEL_BYTES_MAX} visible ASCII characters"
            ));
        }
    }
    Ok(())
}

/// Most labels of a node or a binding; every call of a bound app compares them.
const LABELS_MAX: usize = 16;
/// Longest key, and longest value, of a label: as much as a name.
const LABEL_BYTES_MAX: usize = 63;
/// Most nodes that a binding names; for more, there are labels.
const NODES_MAX: usize = 64;

#[cfg(test)]
mod tests {
    use skein_proto::{Digest, NodeId};

    use super::*;
    use crate::{Addresses, MemberRole};

    fn labels(text: &str) -> BTreeMap<String, String> {
        let pairs = text.split(' ').filter_map(|word| word.split_once('='));
        pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    fn binding(text: &str) -> Binding {
        let nodes = text.split(' ').filter(|word| !word.is_empty() && !word.contains('='));
        Binding { labels: labels(text), nodes: nodes.map(|name| name.parse().unwrap()).collect() }
    }

    #[test]
    fn a_binding_wants_all_labels_and_one_of_the_names() {
        let addresses = Addresses { mesh: String::new(), http: String::new(), admin: String::new() };
        let member = Member {
            node: NodeId(1),
            name: "n1".parse().unwrap(),
            key: Digest::of(b"key"),
            addresses,
            role: MemberRole::Auto,
            is_draining: false,
            labels: labels("zone=eu disk=fast"),
        };
        let check = |text: &str, expected| assert_eq!(binding(text).allows(&member), expected, "{text}");
        check("", true);
        check("zone=eu", true);
        check("zone=eu disk=fast n1", true);
        check("n1 n2", true);
        check("zone=us", false);
        check("zone=eu gpu=yes", false);
        check("n2 zone=eu", false);
    }

    #[test]
    fn a_binding_is_shown_as_people_write_it() {
        let check = |text: &str, expected: &str| assert_eq!(binding(text).to_string(), expected);
        check("", "all nodes");
        check("zone=eu disk=fast", "nodes with disk=fast and zone=eu");
        check("n2 n1", "n1, n2");
        check("n1 zone=eu", "those of n1 with zone=eu");
    }

    #[test]
    fn labels_are_few_short_and_visible() {
        assert_eq!(check_labels(&labels("zone=eu empty=")), Ok(()));
        for key in ["", "a b", "ä", "a=b", &"a".repeat(64)] {
            let labels = BTreeMap::from([(key.to_owned(), String::new())]);
            assert!(check_labels(&labels).unwrap_err().contains("KEY=VALUE"), "{key}");
        }
        let many = (0..17).map(|number| (number.to_string(), String::new())).collect();
        assert!(check_labels(&many).unwrap_err().contains("at most 16"));
    }
}
