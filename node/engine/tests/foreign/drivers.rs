//! What speaks a module's interface: a `_start` that reads stdin, calls the module's exports and writes stdout.

use wasm_encoder::{BlockType, Instruction, ValType};

use crate::wrap::{FD_READ, FD_WRITE, PROC_EXIT, Refused, Stand, Wrap, body, number, word};

type Code = Vec<Instruction<'static>>;

/// How a hash kernel is called.
pub(crate) struct HashSettings {
    /// Given to `Hash_Init`, if it wants something.
    pub(crate) init: u32,
    /// Given to `Hash_Final`, if it wants something.
    pub(crate) last: u32,
    pub(crate) digest_bytes: u32,
}

/// A kernel of `hash-wasm`: hashes stdin, writes the digest.
pub(crate) fn hash(module: &[u8], settings: &HashSettings) -> Result<Vec<u8>, Refused> {
    /// Below what a linker places, so that nothing of the module is here.
    const SCRATCH: i32 = 16;
    /// The size of the kernel's own buffer.
    const BUFFER_BYTES: i32 = 16 << 10;
    let mut wrap = Wrap::read(module, |_, _| None)?;
    let buffer = call(&wrap, "Hash_GetBuffer")?;
    let update = call(&wrap, "Hash_Update")?;
    let view = |length: Instruction<'static>| {
        let at = [number(SCRATCH), buffer.clone(), Instruction::I32Store(word(0))];
        at.into_iter().chain([number(SCRATCH), length, Instruction::I32Store(word(4))])
    };
    let vectors = |fd| [number(fd), number(SCRATCH), number(1), number(SCRATCH + 8)];
    let mut code = call_with(&wrap, "Hash_Init", settings.init)?;
    code.push(Instruction::Loop(BlockType::Empty));
    code.extend(view(number(BUFFER_BYTES)));
    code.extend(vectors(0));
    code.extend([Instruction::Call(FD_READ), Instruction::Drop]);
    code.extend([number(SCRATCH), Instruction::I32Load(word(8)), Instruction::LocalTee(0)]);
    code.extend([Instruction::If(BlockType::Empty), Instruction::LocalGet(0), update, Instruction::Br(1)]);
    code.extend([Instruction::End, Instruction::End]);
    code.extend(call_with(&wrap, "Hash_Final", settings.last)?);
    code.extend(view(number(settings.digest_bytes.cast_signed())));
    code.extend(vectors(1));
    code.extend([Instruction::Call(FD_WRITE), Instruction::Drop]);
    let entry = wrap.add(&[], &[], &body(&[ValType::I32], code));
    Ok(wrap.finish(entry))
}

/// A plug-in of dprint (its interface 4): reads two lengths, a configuration, a path and a text; writes `=` and the text
/// formatted, or ends with exit code 1 and the plug-in's message on stderr.
pub(crate) fn formatter(module: &[u8]) -> Result<Vec<u8>, Refused> {
    /// Memory of the driver's own, in pages.
    const PAGES: i32 = 16;
    /// Where the document is in it.
    const DOCUMENT: i32 = 64;
    // Locals: the driver's memory, and from where and how much is shared or written next.
    const OWN: u32 = 0;
    const AT: u32 = 1;
    const LENGTH: u32 = 2;
    let mut wrap = Wrap::read(module, stand)?;
    let share: Code = vec![
        Instruction::LocalGet(LENGTH),
        call(&wrap, "clear_shared_bytes")?,
        Instruction::LocalGet(AT),
        Instruction::LocalGet(LENGTH),
        Instruction::MemoryCopy { src_mem: 0, dst_mem: 0 },
    ];
    let own = |offset| [Instruction::LocalGet(OWN), Instruction::I32Load(word(offset))];
    let forward: Code =
        vec![Instruction::LocalGet(AT), Instruction::LocalGet(LENGTH), Instruction::I32Add, Instruction::LocalSet(AT)];
    let mut code: Code = vec![number(PAGES), Instruction::MemoryGrow(0), number(16), Instruction::I32Shl];
    code.push(Instruction::LocalSet(OWN));
    // Everything there is on stdin, which is there whole.
    code.extend([Instruction::LocalGet(OWN), Instruction::LocalGet(OWN), number(DOCUMENT), Instruction::I32Add]);
    code.push(Instruction::I32Store(word(0)));
    code.extend([Instruction::LocalGet(OWN), number((PAGES << 16) - DOCUMENT), Instruction::I32Store(word(4))]);
    code.extend(vectors(0, OWN, FD_READ));
    code.extend([Instruction::LocalGet(OWN), number(DOCUMENT + 8), Instruction::I32Add, Instruction::LocalSet(AT)]);
    code.extend(own(64));
    code.push(Instruction::LocalSet(LENGTH));
    code.extend(share.clone());
    code.extend([number(1), call(&wrap, "register_config")?]);
    code.extend(forward.clone());
    code.extend(own(68));
    code.push(Instruction::LocalSet(LENGTH));
    code.extend(share.clone());
    code.push(call(&wrap, "set_file_path")?);
    code.extend(forward);
    // What is left: all that was read, less what came before.
    code.extend(own(8));
    code.extend([Instruction::LocalGet(OWN), Instruction::I32Add, number(DOCUMENT), Instruction::I32Add]);
    code.extend([Instruction::LocalGet(AT), Instruction::I32Sub, Instruction::LocalSet(LENGTH)]);
    code.extend(share);
    code.extend([number(1), call(&wrap, "format")?, Instruction::LocalTee(3), number(2), Instruction::I32Eq]);
    code.push(Instruction::If(BlockType::Empty));
    code.extend([call(&wrap, "get_error_text")?, Instruction::LocalSet(LENGTH)]);
    code.extend([call(&wrap, "get_shared_bytes_ptr")?, Instruction::LocalSet(AT)]);
    code.extend(write(2, OWN, AT, LENGTH));
    code.extend([number(1), Instruction::Call(PROC_EXIT), Instruction::End]);
    code.extend([Instruction::LocalGet(3), Instruction::If(BlockType::Empty)]);
    code.extend([call(&wrap, "get_formatted_text")?, Instruction::LocalSet(LENGTH)]);
    code.extend([call(&wrap, "get_shared_bytes_ptr")?, Instruction::LocalSet(AT), Instruction::End]);
    // The sign that it went well, then the text.
    code.extend([Instruction::LocalGet(OWN), number(i32::from(b'=')), Instruction::I32Store(word(32))]);
    code.extend([Instruction::LocalGet(OWN), number(32), Instruction::I32Add, Instruction::LocalSet(4)]);
    code.extend([number(1), Instruction::LocalSet(5)]);
    code.extend(write(1, OWN, 4, 5));
    code.extend(write(1, OWN, AT, LENGTH));
    let entry = wrap.add(&[], &[], &body(&[ValType::I32; 6], code));
    Ok(wrap.finish(entry))
}

/// The host of a plug-in, for code inside a document: nobody formats that, so nothing changes.
fn stand(module: &str, name: &str) -> Option<Stand> {
    (module == "dprint").then_some(())?;
    Some(Stand::Function(match name {
        "host_write_buffer" => body(&[], []),
        "host_format" | "host_get_formatted_text" | "host_get_error_text" => body(&[], [number(0)]),
        _ => return None,
    }))
}

fn call(wrap: &Wrap, name: &str) -> Result<Instruction<'static>, Refused> {
    let (function, _) = wrap.function(name).ok_or_else(|| Refused(format!("no function {name}")))?;
    Ok(Instruction::Call(function))
}

/// Calls `name`, with `argument` if it takes one.
fn call_with(wrap: &Wrap, name: &str, argument: u32) -> Result<Code, Refused> {
    let (function, ty) = wrap.function(name).ok_or_else(|| Refused(format!("no function {name}")))?;
    let mut code: Code = ty.params().iter().map(|_| number(argument.cast_signed())).collect();
    code.push(Instruction::Call(function));
    Ok(code)
}

/// Reads or writes the one buffer that is described at the start of the driver's memory.
fn vectors(fd: i32, own: u32, function: u32) -> Code {
    let own = Instruction::LocalGet(own);
    vec![
        number(fd),
        own.clone(),
        number(1),
        own,
        number(8),
        Instruction::I32Add,
        Instruction::Call(function),
        Instruction::Drop,
    ]
}

/// Writes the bytes that two locals describe.
fn write(fd: i32, own: u32, at: u32, length: u32) -> Code {
    let mut code: Code = vec![Instruction::LocalGet(own), Instruction::LocalGet(at), Instruction::I32Store(word(0))];
    code.extend([Instruction::LocalGet(own), Instruction::LocalGet(length), Instruction::I32Store(word(4))]);
    code.extend(vectors(fd, own, FD_WRITE));
    code
}
