//! The same module in another engine, wasmi, which interprets: a new instance for each call, or one that is kept.

use wasmi::{
    Caller, Config, Engine, Error, Extern, Instance, Linker, Module, Store, StoreLimits, StoreLimitsBuilder, TrapCode,
};

use crate::modules::Case;

/// How a call ended, in words that both engines have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ending {
    Done,
    Exit(i32),
    /// The guest said that it failed.
    Failed(String),
    Trap(&'static str),
    /// It failed, by whatever means, after it was refused memory. Only the engine under test tells this apart.
    Memory,
}

/// All that can be seen of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) payload: Vec<u8>,
    pub(crate) log: Vec<u8>,
    pub(crate) ending: Ending,
}

impl Outcome {
    /// True if this, of the engine under test, is what `expected` says.
    pub(crate) fn is(&self, expected: &Self) -> bool {
        let ending = match (&self.ending, &expected.ending) {
            (Ending::Memory, ending) => *ending != Ending::Done,
            (ending, expected) => ending == expected,
        };
        ending && self.payload == expected.payload && self.log == expected.log
    }
}

/// What a call brings.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Given<'a> {
    pub(crate) payload: &'a [u8],
    pub(crate) args: &'a [String],
    pub(crate) env: &'a [(String, String)],
}

/// What the host functions of one instance work on.
#[derive(Default)]
struct World {
    payload: Vec<u8>,
    args: Vec<String>,
    env: Vec<String>,
    output: Vec<u8>,
    log: Vec<u8>,
    failure: Option<String>,
    has_read: bool,
    limits: StoreLimits,
}

/// A module, ready to be instantiated.
pub(crate) struct Reference<'c> {
    case: &'c Case,
    module: Module,
    linker: Linker<World>,
    engine: Engine,
}

/// An instance that is kept from call to call.
pub(crate) struct Kept {
    store: Store<World>,
    instance: Instance,
    is_initialised: bool,
}

impl<'c> Reference<'c> {
    pub(crate) fn new(case: &'c Case, code: &[u8]) -> Result<Self, Error> {
        let engine = Engine::new(&Config::default());
        let module = Module::new(&engine, code)?;
        let mut linker = Linker::new(&engine);
        link(&mut linker)?;
        Ok(Self { case, module, linker, engine })
    }

    /// A call in an instance of its own.
    pub(crate) fn fresh(&self, given: Given<'_>) -> Outcome {
        self.reused(&mut None, given)
    }

    /// A call that begins as the version's image may say under `snapshot = "always"`: its initialisation sees no more of
    /// the environment than `granted`, and nobody reads its log. The same as any other if that is not what it may leave.
    pub(crate) fn imaged(&self, given: Given<'_>, granted: &[(String, String)]) -> Outcome {
        let Ok(mut kept) = self.make() else { return self.fresh(given) };
        kept.store.data_mut().begin(Given { payload: &[], env: granted, ..given });
        let initialised = kept.initialise();
        let world = kept.store.data();
        if initialised.is_err() || world.has_read || !world.output.is_empty() || world.failure.is_some() {
            return self.fresh(given);
        }
        self.reused(&mut Some(kept), given)
    }

    /// A call in the instance that is kept, or in a new one. It stays if the call ended by returning.
    pub(crate) fn reused(&self, kept: &mut Option<Kept>, given: Given<'_>) -> Outcome {
        let mut live = match kept.take() {
            Some(live) => live,
            None => match self.make() {
                Ok(live) => live,
                Err(error) => return World::default().end(Err(error)),
            },
        };
        live.store.data_mut().begin(given);
        let ended = live.initialise().and_then(|()| live.call(self.case.entry));
        let has_returned = ended.is_ok();
        let outcome = std::mem::take(live.store.data_mut()).end(ended);
        if has_returned {
            live.store.data_mut().limits = self.limits();
            *kept = Some(live);
        }
        outcome
    }

    fn limits(&self) -> StoreLimits {
        StoreLimitsBuilder::new()
            .memory_size(self.case.memory_bytes_max as usize)
            .table_elements(self.case.table_elements_max as usize)
            .build()
    }

    fn make(&self) -> Result<Kept, Error> {
        let mut store = Store::new(&self.engine, World { limits: self.limits(), ..World::default() });
        store.limiter(|world| &mut world.limits);
        let instance = self.linker.instantiate_and_start(&mut store, &self.module)?;
        Ok(Kept { store, instance, is_initialised: false })
    }
}

impl Kept {
    /// `_initialize`, before the first call.
    fn initialise(&mut self) -> Result<(), Error> {
        if !std::mem::replace(&mut self.is_initialised, true)
            && let Ok(function) = self.instance.get_typed_func::<(), ()>(&self.store, "_initialize")
        {
            function.call(&mut self.store, ())?;
        }
        Ok(())
    }

    fn call(&mut self, entry: &str) -> Result<i32, Error> {
        if let Ok(function) = self.instance.get_typed_func::<(), ()>(&self.store, entry) {
            return function.call(&mut self.store, ()).map(|()| 0);
        }
        self.instance.get_typed_func::<(), i32>(&self.store, entry)?.call(&mut self.store, ())
    }
}

impl World {
    fn begin(&mut self, given: Given<'_>) {
        let limits = std::mem::take(&mut self.limits);
        *self = Self {
            payload: given.payload.to_vec(),
            args: given.args.to_vec(),
            env: given.env.iter().map(|(name, value)| format!("{name}={value}")).collect(),
            limits,
            ..Self::default()
        };
    }

    fn end(self, ended: Result<i32, Error>) -> Outcome {
        let code = ended.or_else(|error| error.i32_exit_status().ok_or(error));
        let ending = match (self.failure, code) {
            (Some(message), _) => Ending::Failed(message),
            (None, Ok(0)) => Ending::Done,
            (None, Ok(code)) => Ending::Exit(code),
            // It has no trap's code for elements that do not fit their table.
            (None, Err(error)) if error.to_string().starts_with("out of bounds table access") => Ending::Trap("table"),
            (None, Err(error)) => Ending::Trap(match error.as_trap_code() {
                Some(TrapCode::UnreachableCodeReached) => "unreachable",
                Some(TrapCode::MemoryOutOfBounds) => "memory",
                Some(TrapCode::TableOutOfBounds) => "table",
                Some(TrapCode::IntegerDivisionByZero) => "division",
                _ => panic!("the other engine fails: {error}"),
            }),
        };
        Outcome { payload: self.output, log: self.log, ending }
    }
}

fn link(linker: &mut Linker<World>) -> Result<(), Error> {
    const WASI: &str = "wasi_snapshot_preview1";
    linker.func_wrap(WASI, "proc_exit", |code: i32| Err::<(), _>(Error::i32_exit(code)))?;
    linker.func_wrap(WASI, "fd_read", |mut caller: Caller<'_, World>, fd: i32, at: i32, count: i32, result: i32| {
        assert_eq!((fd, count), (0, 1), "what the generator writes");
        let (to, length) = (word(&caller, at), word(&caller, at + 4));
        let world = caller.data_mut();
        world.has_read = true;
        let piece: Vec<u8> = world.payload.drain(..world.payload.len().min(length as usize)).collect();
        write(&mut caller, to, &piece);
        write(&mut caller, result, &(piece.len() as u32).to_le_bytes());
        0
    })?;
    linker.func_wrap(
        WASI,
        "fd_write",
        |mut caller: Caller<'_, World>, fd: i32, at: i32, count: i32, result: i32| {
            assert_eq!(count, 1, "what the generator writes");
            let (from, length) = (word(&caller, at), word(&caller, at + 4));
            let piece = read(&caller, from, length);
            let world = caller.data_mut();
            if fd == 1 { &mut world.output } else { &mut world.log }.extend_from_slice(&piece);
            write(&mut caller, result, &length.to_le_bytes());
            0
        },
    )?;
    strings(linker, ["environ_sizes_get", "environ_get"], |world| world.env.clone())?;
    strings(linker, ["args_sizes_get", "args_get"], |world| world.args.clone())?;
    linker.func_wrap("skein", "output", |mut caller: Caller<'_, World>, at: i32, length: i32| {
        let piece = read(&caller, at, length);
        caller.data_mut().output.extend_from_slice(&piece);
    })?;
    linker.func_wrap("skein", "log", |mut caller: Caller<'_, World>, at: i32, length: i32| {
        let piece = read(&caller, at, length);
        caller.data_mut().log.extend_from_slice(&piece);
    })?;
    linker.func_wrap("skein", "fail", |mut caller: Caller<'_, World>, at: i32, length: i32| {
        let piece = read(&caller, at, length);
        caller.data_mut().failure = Some(String::from_utf8_lossy(&piece).into_owned());
    })?;
    Ok(())
}

fn strings(linker: &mut Linker<World>, names: [&str; 2], of: fn(&World) -> Vec<String>) -> Result<(), Error> {
    linker.func_wrap(
        "wasi_snapshot_preview1",
        names[0],
        move |mut caller: Caller<'_, World>, count: i32, bytes: i32| {
            let strings = of(caller.data());
            let total: usize = strings.iter().map(|string| string.len() + 1).sum();
            write(&mut caller, count, &(strings.len() as u32).to_le_bytes());
            write(&mut caller, bytes, &(total as u32).to_le_bytes());
            0
        },
    )?;
    linker.func_wrap(
        "wasi_snapshot_preview1",
        names[1],
        move |mut caller: Caller<'_, World>, pointers: i32, to: i32| {
            let (mut pointers, mut to) = (pointers, to);
            for string in of(caller.data()) {
                write(&mut caller, pointers, &to.to_le_bytes());
                write(&mut caller, to, format!("{string}\0").as_bytes());
                (pointers, to) = (pointers + 4, to + string.len() as i32 + 1);
            }
            0
        },
    )?;
    Ok(())
}

fn read(caller: &Caller<'_, World>, at: i32, length: i32) -> Vec<u8> {
    let mut bytes = vec![0; length as usize];
    memory(caller).read(caller, at as usize, &mut bytes).expect("an address that the generator wrote");
    bytes
}

fn word(caller: &Caller<'_, World>, at: i32) -> i32 {
    let mut bytes = [0; 4];
    bytes.copy_from_slice(&read(caller, at, 4));
    i32::from_le_bytes(bytes)
}

fn write(caller: &mut Caller<'_, World>, at: i32, bytes: &[u8]) {
    memory(caller).write(caller, at as usize, bytes).expect("an address that the generator wrote");
}

fn memory(caller: &Caller<'_, World>) -> wasmi::Memory {
    caller.get_export("memory").and_then(Extern::into_memory).expect("a memory that it exports")
}
