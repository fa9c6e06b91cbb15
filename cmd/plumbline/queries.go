package main

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"os"
)

// maxQueryLine bounds one line of a file of queries, in bytes.
const maxQueryLine = 64 << 10

// queryLines goes through a file of queries: one JSON value a line.
type queryLines struct {
	path string
	file io.ReadCloser
	scan *bufio.Scanner

	line   []byte // that was read last
	number int
}

// openQueries opens a file of queries, or what stands in for "-".
func openQueries(path string, stdin io.Reader) (*queryLines, error) {
	file := io.NopCloser(stdin)
	if path != "-" {
		var err error
		if file, err = os.Open(path); err != nil {
			return nil, err
		}
	}
	q := &queryLines{path: path, file: file, scan: bufio.NewScanner(file)}
	q.scan.Buffer(nil, maxQueryLine)
	return q, nil
}

// next reads the next line that is not blank.
func (q *queryLines) next() bool {
	for q.scan.Scan() {
		q.number++
		if q.line = bytes.TrimSpace(q.scan.Bytes()); len(q.line) > 0 {
			return true
		}
	}
	return false
}

// err says why there is no next line, if that is not the end of the file.
func (q *queryLines) err() error {
	if err := q.scan.Err(); err != nil {
		return fmt.Errorf("%s: %w", q.path, err)
	}
	return nil
}

func (q *queryLines) close() { q.file.Close() }
