//! Works on files by Rust's standard library, and prints what it is told: the same in every engine.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

fn say<T: std::fmt::Debug>(what: &str, result: io::Result<T>) {
    match result {
        Ok(value) => println!("{what}: {value:?}"),
        Err(error) => println!("{what}: {:?}", error.kind()),
    }
}

fn walk(path: &Path, depth: usize) -> io::Result<(usize, u64)> {
    let mut entries: Vec<_> = fs::read_dir(path)?.collect::<io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    let (mut count, mut bytes) = (0, 0);
    for entry in entries {
        let kind = entry.file_type()?;
        count += 1;
        if depth < 2 {
            println!("{}{:?} {}", "  ".repeat(depth), entry.file_name(), if kind.is_dir() { "/" } else { "" });
        }
        if kind.is_dir() {
            let below = walk(&entry.path(), depth + 1)?;
            count += below.0;
            bytes += below.1;
        } else {
            bytes += entry.metadata()?.len();
        }
    }
    Ok((count, bytes))
}

fn contents() -> io::Result<()> {
    fs::write("/r-plain", "one\ntwo\nthree\n")?;
    say("read", fs::read_to_string("/r-plain"));
    let mut file = OpenOptions::new().append(true).open("/r-plain")?;
    writeln!(file, "four")?;
    say("lines", BufReader::new(File::open("/r-plain")?).lines().map(|line| line.map(|l| l.len())).collect::<io::Result<Vec<_>>>());
    let mut file = OpenOptions::new().read(true).write(true).open("/r-plain")?;
    say("seek", file.seek(SeekFrom::End(-5)));
    let mut rest = String::new();
    say("rest", file.read_to_string(&mut rest));
    println!("{rest:?}");
    say("set_len", file.set_len(3));
    say("position", file.stream_position());
    say("rewind", file.rewind());
    say("len", file.metadata().map(|metadata| metadata.len()));
    say("sync", file.sync_all());
    say("create_new", File::create_new("/r-plain").map(|_| ()));
    say("missing", File::open("/nothing").map(|_| ()));
    say("copy", fs::copy("/r-plain", "/r-copy"));
    say("rename", fs::rename("/r-copy", "/r-moved"));
    say("exists", fs::exists("/r-copy"));
    say("copy again", fs::copy("/r-moved", "/r-second"));
    say("remove", fs::remove_file("/r-moved"));
    say("second", fs::read_to_string("/r-second"));
    let times = fs::FileTimes::new().set_modified(UNIX_EPOCH + Duration::from_secs(1_000_000_000));
    say("times", OpenOptions::new().write(true).open("/r-second")?.set_times(times));
    let modified = fs::metadata("/r-second")?.modified()?;
    say("modified", Ok(modified.duration_since(UNIX_EPOCH).unwrap().as_secs()));
    Ok(())
}

fn trees() -> io::Result<()> {
    fs::create_dir_all("/tree/a/b/c/d/e")?;
    for index in 0..300 {
        let dir = format!("/tree/a/{}", index % 10);
        fs::create_dir_all(&dir)?;
        fs::write(format!("{dir}/file-{index}"), vec![index as u8; index * 10])?;
    }
    say("walk", walk(Path::new("/tree"), 0));
    say("not empty", fs::remove_dir("/tree/a"));
    say("rename", fs::rename("/tree/a/b", "/tree/z"));
    say("remove all", fs::remove_dir_all("/tree/a"));
    say("walk", walk(Path::new("/tree"), 0));
    Ok(())
}

fn big() -> io::Result<()> {
    let mut file = File::create("/r-big")?;
    let mut state = 1_u32;
    let mut chunk = vec![0; 1 << 20];
    for _ in 0..8 {
        chunk.iter_mut().for_each(|byte| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            *byte = (state >> 24) as u8;
        });
        file.write_all(&chunk)?;
    }
    drop(file);
    let all = fs::read("/r-big")?;
    let sum = all.iter().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add((*byte).into()));
    println!("big: {} bytes, {sum:08x}", all.len());
    fs::remove_file("/r-big")
}

fn main() -> io::Result<()> {
    println!("{:?}", std::env::args().skip(1).collect::<Vec<_>>());
    let mut input = String::new();
    io::stdin().read_to_string(&mut input)?;
    println!("input {input:?}");
    contents()?;
    trees()?;
    big()?;
    let handles: Vec<File> = (0..50).map(|index| File::create(format!("/h{}", index % 7))).collect::<io::Result<_>>()?;
    println!("{} handles", handles.len());
    drop(handles);
    say("end", walk(Path::new("/"), 1));
    std::process::exit(7)
}
