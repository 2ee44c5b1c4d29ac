// JSON in, JSON out, as a reactor: the runtime starts once in `_initialize`, `handle` answers.
package main

import (
	"encoding/json"
	"io"
	"os"
)

type input struct {
	Name   string   `json:"name"`
	Values []uint64 `json:"values"`
}

type output struct {
	Greeting string `json:"greeting"`
	Count    int    `json:"count"`
	Sum      uint64 `json:"sum"`
}

//go:wasmexport handle
func handle() int32 {
	text, err := io.ReadAll(os.Stdin)
	if err != nil {
		return 1
	}
	var asked input
	if json.Unmarshal(text, &asked) != nil {
		return 1
	}
	answer := output{Greeting: "hello " + asked.Name, Count: len(asked.Values)}
	for _, value := range asked.Values {
		answer.Sum += value
	}
	reply, err := json.Marshal(answer)
	if err != nil {
		return 1
	}
	if _, err := os.Stdout.Write(reply); err != nil {
		return 1
	}
	return 0
}

func main() {}
