// Command csv-to-json turns CSV with a header line into a JSON array with one object for each record.
//
//	skein publish examples/csv-to-json && printf 'name,price\nTea,"3,20"\n' | skein invoke csv-to-json -
//	[
//	{"name":"Tea","price":"3,20"}
//	]
//
// Fields keep the order of the columns and stay strings. Exit code 1 with a message that names the line on stderr: no
// header, two columns of one name, a record with too few or too many fields, a quote in the wrong place.
package main

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
)

func main() {
	// Written only when all of it is right: half a result would look like a whole one.
	var result []byte
	var err error
	if result, err = convert(os.Stdin); err == nil {
		_, err = os.Stdout.Write(result)
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "csv-to-json: %v\n", err)
		os.Exit(1)
	}
}

func convert(in io.Reader) ([]byte, error) {
	records := csv.NewReader(bufio.NewReader(in))
	names, err := header(records)
	if err != nil {
		return nil, err
	}
	out := []byte("[")
	for separator := "\n"; ; separator = ",\n" {
		fields, err := records.Read()
		if errors.Is(err, io.EOF) {
			return append(out, "\n]\n"...), nil
		}
		if err != nil {
			return nil, err
		}
		out = append(out, separator...)
		for i, field := range fields {
			mark := byte(',')
			if i == 0 {
				mark = '{'
			}
			value, err := json.Marshal(field)
			if err != nil {
				return nil, err
			}
			out = append(append(append(append(out, mark), names[i]...), ':'), value...)
		}
		out = append(out, '}')
	}
}

// header reads the first record: the name of each column, as JSON.
func header(records *csv.Reader) ([][]byte, error) {
	columns, err := records.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("there is no header line")
	}
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	names := make([][]byte, len(columns))
	for i, column := range columns {
		if seen[column] {
			return nil, fmt.Errorf("line 1: there are two columns named %q", column)
		}
		seen[column] = true
		if names[i], err = json.Marshal(column); err != nil {
			return nil, err
		}
	}
	return names, nil
}
