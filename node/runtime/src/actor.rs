//! One version's actor: it moves an activation through its life, and never touches a call.

use std::sync::Arc;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use skein_engine::Room;
use skein_proto::Failure;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use crate::{
    activation::Activation,
    prepare::{Loaded, Preparer},
};

/// What a version's actor is told.
pub(crate) enum Message {
    /// The start has ended.
    Loaded(Result<Loaded, Failure>),
    /// Take no new calls, let those that are here finish, then stop. From the supervisor.
    Drain,
    /// Every call has gone home.
    Home,
}

/// What a version's actor starts with.
pub(crate) struct Arguments {
    pub(crate) activation: Arc<Activation>,
    pub(crate) preparer: Preparer,
    /// Where the actor's waits run, so that shutdown can wait for them.
    pub(crate) tasks: TaskTracker,
    /// What is set aside for its code, if that is.
    pub(crate) room: Option<Room>,
}

/// The actor of one live version.
pub(crate) struct FunctionActor;

impl Actor for FunctionActor {
    type Msg = Message;
    type State = Arguments;
    type Arguments = Arguments;

    async fn pre_start(
        &self,
        myself: ActorRef<Message>,
        mut arguments: Arguments,
    ) -> Result<Arguments, ActorProcessingErr> {
        let (preparer, record) = (arguments.preparer.clone(), arguments.activation.record().clone());
        let room = arguments.room.take();
        arguments.tasks.spawn(async move {
            let loaded = preparer.load(record, room).await;
            // The actor may have gone meanwhile; then nobody waits for the program.
            let _ = myself.cast(Message::Loaded(loaded));
        });
        Ok(arguments)
    }

    async fn handle(
        &self,
        myself: ActorRef<Message>,
        message: Message,
        state: &mut Arguments,
    ) -> Result<(), ActorProcessingErr> {
        match message {
            Message::Loaded(Ok(loaded)) => state.loaded(loaded),
            Message::Loaded(Err(failure)) => state.failed(&myself, failure),
            Message::Drain => state.drain(myself),
            Message::Home => state.home(&myself),
        }
        Ok(())
    }
}

impl Arguments {
    fn loaded(&self, loaded: Loaded) {
        let (activation, age) = (&self.activation, self.activation.age());
        activation.ready(loaded);
        if !activation.is_guess() {
            activation.meters.start.record(age);
        }
        debug!(function = %activation.name(), start_ms = age.as_millis(), "activation is ready");
    }

    fn failed(&self, myself: &ActorRef<Message>, failure: Failure) {
        warn!(function = %self.activation.name(), code = %failure.code, error = %failure, "activation could not start");
        self.activation.fail(failure);
        myself.stop(None);
    }

    fn drain(&self, myself: ActorRef<Message>) {
        debug!(function = %self.activation.name(), calls = self.activation.in_flight(), "activation drains");
        self.activation.drain();
        let activation = self.activation.clone();
        self.tasks.spawn(async move {
            activation.home().await;
            let _ = myself.cast(Message::Home);
        });
    }

    fn home(&self, myself: &ActorRef<Message>) {
        self.activation.stop();
        debug!(function = %self.activation.name(), "activation stopped");
        myself.stop(None);
    }
}
