//! `skein app`: the arguments.

use clap::{Args, Subcommand};
use skein_proto::{AppName, NodeName};

use super::key_value;

#[derive(Debug, Subcommand)]
pub(crate) enum App {
    /// Declare an app, and the nodes that its functions may run on
    Create {
        /// The app
        name: AppName,
        #[command(flatten)]
        places: Places,
    },
    /// Show where an app's functions may run
    Show {
        /// The app
        name: AppName,
    },
    /// Bind an app to nodes: running calls end where they are, new ones go to these nodes only
    #[command(group = clap::ArgGroup::new("places").required(true).multiple(true).args(["labels", "nodes", "anywhere"]))]
    Bind {
        /// The app
        name: AppName,
        #[command(flatten)]
        places: Places,
        /// Bind it to no nodes in particular
        #[arg(long, conflicts_with_all = ["labels", "nodes"])]
        anywhere: bool,
    },
    /// List the apps
    Ls,
    /// Remove an app that owns no function
    Rm {
        /// The app
        name: AppName,
    },
}

/// The nodes that an app is bound to.
#[derive(Debug, Clone, Args)]
pub(crate) struct Places {
    /// A label that the nodes must carry; may be repeated, then they must carry all
    #[arg(long = "label", value_name = "K=V", value_parser = key_value)]
    pub(crate) labels: Vec<(String, String)>,
    /// A node; may be repeated, then any of them
    #[arg(long = "node", value_name = "NAME")]
    pub(crate) nodes: Vec<NodeName>,
}
