// Works on files by Go's standard library, and prints what it is told: the same in every engine.
package main

import (
	"bytes"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

func say(what string, err error) {
	var path *fs.PathError
	var link *os.LinkError
	switch {
	case err == nil:
		fmt.Println(what, "ok")
	case errors.As(err, &path):
		fmt.Println(what, path.Err)
	case errors.As(err, &link):
		fmt.Println(what, link.Err)
	default:
		fmt.Println(what, err)
	}
}

func main() {
	fmt.Println(os.Args[1:])
	say("mkdir", os.MkdirAll("/go/deep/er", 0o755))
	say("mkdir", os.Mkdir("/go", 0o755))
	for i := range 120 {
		name := fmt.Sprintf("/go/deep/file-%03d", i)
		if err := os.WriteFile(name, bytes.Repeat([]byte{byte(i)}, i*50), 0o644); err != nil {
			say(name, err)
		}
	}
	entries, err := os.ReadDir("/go/deep")
	say("readdir", err)
	fmt.Println(len(entries), entries[0].Name(), entries[len(entries)-1].Name(), entries[0].IsDir())
	say("rename", os.Rename("/go/deep/file-007", "/go/seven"))
	data, err := os.ReadFile("/go/seven")
	say("read", err)
	fmt.Println(len(data), crc32.ChecksumIEEE(data))
	say("symlink", os.Symlink("seven", "/go/link"))
	target, err := os.Readlink("/go/link")
	say("readlink", err)
	fmt.Println(target)
	info, err := os.Lstat("/go/link")
	say("lstat", err)
	fmt.Println(info.Mode()&fs.ModeSymlink != 0)
	info, err = os.Stat("/go/link")
	say("stat", err)
	fmt.Println(info.Size(), info.Mode().IsRegular())
	say("link", os.Link("/go/seven", "/go/hard"))
	file, err := os.OpenFile("/go/hard", os.O_APPEND|os.O_WRONLY, 0)
	say("open", err)
	_, err = file.WriteString("appended")
	say("append", err)
	say("sync", file.Sync())
	say("close", file.Close())
	say("truncate", os.Truncate("/go/hard", 355))
	file, err = os.Open("/go/seven")
	say("open", err)
	at, err := file.Seek(-5, io.SeekEnd)
	say("seek", err)
	rest, err := io.ReadAll(file)
	say("read all", err)
	fmt.Printf("%d %q\n", at, rest)
	part := make([]byte, 3)
	_, err = file.ReadAt(part, 349)
	say("read at", err)
	fmt.Printf("%q\n", part)
	file.Close()
	when := time.Unix(1_000_000_000, 0)
	say("chtimes", os.Chtimes("/go/seven", when, when))
	info, _ = os.Stat("/go/seven")
	fmt.Println(info.ModTime().Unix())
	_, err = os.Open("/go/nothing")
	say("missing", err)
	say("remove full", os.Remove("/go/deep"))
	_, err = os.OpenFile("/go/seven", os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o644)
	say("exclusive", err)
	count, size := 0, int64(0)
	say("walk", filepath.WalkDir("/", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		count++
		if info, err := entry.Info(); err == nil && !entry.IsDir() {
			size += info.Size()
		}
		return nil
	}))
	fmt.Println(count, size)
	say("remove all", os.RemoveAll("/go/deep"))
	temporary, err := os.MkdirTemp("/go", "t")
	say("temporary", err)
	say("remove", os.Remove(temporary))
	time.Sleep(2 * time.Millisecond)
	os.Exit(3)
}
