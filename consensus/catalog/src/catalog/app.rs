//! Commands on apps: declare one, bind it to nodes, remove it.
//!
//! An app that owns functions is there without being declared; then it is bound to nothing.

use std::{collections::BTreeSet, sync::Arc};

use skein_proto::{AppName, ErrorCode, NodeId};

use super::Catalog;
use crate::{
    AppRecord, Binding, Outcome,
    refusal::{Refusal, listed},
};

impl Catalog {
    pub(super) fn create_app(&mut self, app: &AppName, binding: &Binding) -> Result<Outcome, Refusal> {
        if self.apps.contains_key(app) {
            let message = format!("app {app} is there already; change it with `skein app bind {app}`");
            return Err(Refusal::conflict(message));
        }
        if self.apps.size() >= APPS_MAX {
            return Err(Refusal::conflict(format!("there are {APPS_MAX} apps, the most there may be; remove some")));
        }
        self.put_app(app, binding)
    }

    pub(super) fn bind_app(&mut self, app: &AppName, binding: &Binding) -> Result<Outcome, Refusal> {
        if self.apps.contains_key(app) {
            return self.put_app(app, binding);
        }
        if self.functions.contains_key(app) {
            return self.create_app(app, binding);
        }
        Err(self.unknown_app(app))
    }

    pub(super) fn remove_app(&mut self, app: &AppName) -> Result<Outcome, Refusal> {
        if let Some(functions) = self.functions.get(app) {
            let message = format!("app {app} has functions: {}; delete them first", listed(functions.keys()));
            return Err(Refusal::conflict(message));
        }
        if !self.apps.contains_key(app) {
            return Err(self.unknown_app(app));
        }
        self.apps.remove_mut(app);
        Ok(Outcome::Done)
    }

    fn put_app(&mut self, app: &AppName, binding: &Binding) -> Result<Outcome, Refusal> {
        binding.check().map_err(Refusal::bad_request)?;
        // A name that was misspelt would leave the app without a node.
        if let Some(unknown) = binding.nodes.iter().find(|name| self.member_named(name.as_str()).is_none()) {
            let known = listed(self.members().map(|member| &member.name));
            return Err(Refusal::new(ErrorCode::NotFound, format!("no node is named {unknown}; there are: {known}")));
        }
        self.insert_app(AppRecord { name: app.clone(), binding: binding.clone(), index: self.index });
        Ok(Outcome::Done)
    }

    pub(super) fn insert_app(&mut self, app: AppRecord) {
        self.apps.insert_mut(app.name.clone(), Arc::new(app));
    }

    /// The apps that were declared or own a function, by name.
    pub fn apps(&self) -> impl Iterator<Item = &AppName> {
        self.apps.keys().chain(self.functions.keys()).collect::<BTreeSet<_>>().into_iter()
    }

    /// How many functions an app owns.
    pub fn functions_of(&self, app: &AppName) -> usize {
        self.functions.get(app).map_or(0, |functions| functions.size())
    }

    /// What the app is bound to; none if it may run anywhere.
    pub fn binding(&self, app: &AppName) -> Option<&Binding> {
        self.apps.get(app).map(|app| &app.binding).filter(|binding| !binding.is_anywhere())
    }

    /// The index as of which the app is bound as it is: a node that knows less may refuse its calls, or take them when it
    /// should not. 0 for an app that was never bound.
    pub fn bound_index(&self, app: &AppName) -> u64 {
        self.apps.get(app).map_or(0, |app| app.index)
    }

    /// Whether functions of `app` may run on `node`.
    pub fn may_run(&self, app: &AppName, node: NodeId) -> bool {
        self.binding(app).is_none_or(|binding| self.member(node).is_some_and(|member| binding.allows(member)))
    }

    fn unknown_app(&self, app: &AppName) -> Refusal {
        let message = format!("no app {app}; apps: {}. `skein app create {app}` makes it", listed(self.apps()));
        Refusal::new(ErrorCode::NotFound, message)
    }
}

/// Most apps that are declared.
const APPS_MAX: usize = 10_000;
