package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

// How an op ends, in the journal. The latter two are followed by the error.
const (
	ok        = "ok"
	tolerated = "tolerated: " // an error, and the effect is there
	failed    = "failed: "
)

// entry is a line of the journal: an intent, or the end of the op before.
type entry struct {
	op
	Done string `json:"done,omitempty"`
	// Waited: the client still had a name for a removed file in the directory.
	Waited bool `json:"waited,omitempty"`
}

// journal is what a worker meant to do and what came of it, line by line, each
// written before the worker goes on. It does not lie on the server.
type journal struct{ f *os.File }

func newJournal(name string) (*journal, error) {
	f, err := os.Create(name)
	return &journal{f}, err
}

func (j *journal) intent(o *op) error { return j.line(&entry{op: *o}) }

func (j *journal) done(o *op, how string, waited bool) error {
	return j.line(&entry{op: op{N: o.N, Do: o.Do}, Done: how, Waited: waited})
}

func (j *journal) line(e *entry) error {
	b, err := json.Marshal(e)
	if err == nil {
		_, err = j.f.Write(append(b, '\n'))
	}
	return err
}

// account is what a journal says.
type account struct {
	model          *model
	ops, tolerated int
	waited         int      // ops that waited for the client to remove a file
	failures       []string // ops with other errors
	notes          []string // what was tolerated
}

// readJournal works out what must be there.
func readJournal(name string) (*account, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	a := &account{model: newModel()}
	for _, o := range seeds() {
		if err := a.model.apply(&o); err != nil {
			return nil, err
		}
	}
	var begun *op
	lines := bufio.NewScanner(f)
	for lines.Scan() {
		var e entry
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if e.Done == "" {
			begun = &e.op
			continue
		}
		if begun == nil || begun.N != e.N {
			return nil, fmt.Errorf("%s: %w: the end of op %d", name, errModel, e.N)
		}
		if e.Waited {
			a.waited++
		}
		if err := a.add(begun, e.Done); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		begun = nil
	}
	if begun != nil {
		if err := a.add(begun, failed+"it has not ended"); err != nil {
			return nil, err
		}
	}
	return a, lines.Err()
}

func (a *account) add(o *op, done string) error {
	a.ops++
	b, _ := json.Marshal(o) // plain words and numbers
	switch {
	case done == ok:
	case happened(o, done) && o.Do != "release":
		a.tolerated++
		a.notes = append(a.notes, fmt.Sprintf("%s: %s", b, done))
	default:
		a.failures = append(a.failures, fmt.Sprintf("%s: %s", b, done))
	}
	if !happened(o, done) {
		return nil
	}
	return a.model.apply(o)
}
