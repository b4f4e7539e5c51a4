package ui

import (
	"errors"
	"fmt"
	"io"
	"strings"
)

// Rules of what the command says: what was asked for goes to standard output;
// everything else goes to standard error with "rubus: error: ", "rubus: hint: "
// or "rubus: " before it, without a capital first letter and without a period
// at the end.

// Exit codes of the command.
const (
	// ExitOK: what was asked for is done.
	ExitOK = 0
	// ExitError: it could not be done, or was found wrong.
	ExitError = 1
	// ExitUsage: the command line is wrong, or more has to be said on it.
	ExitUsage = 2
)

// Error is an error that tells people what to do about it.
type Error struct {
	// Err says what went wrong.
	Err error
	// Hints are printed below it, a line each.
	Hints []string
	// Code is the exit code; 0 means that of Err, or ExitError.
	Code int
}

// Error implements error; it is the text of Err without the hints.
func (e *Error) Error() string { return e.Err.Error() }

// Unwrap gives Err.
func (e *Error) Unwrap() error { return e.Err }

// Hint adds hints to an error. Without an error there is none to hint at: nil.
func Hint(err error, hints ...string) error {
	if err == nil {
		return nil
	}
	return &Error{Err: err, Hints: hints}
}

// Usage makes an error of a wrong command line: exit code 2.
func Usage(err error, hints ...string) error {
	if err == nil {
		return nil
	}
	return &Error{Err: err, Hints: hints, Code: ExitUsage}
}

// Usagef is Usage with a formatted message and no hint.
func Usagef(format string, a ...any) error { return Usage(fmt.Errorf(format, a...)) }

// ErrSilent says that the exit code is ExitError and that everything has been
// said already.
var ErrSilent = errors.New("failed")

// Code is the exit code of an error.
func Code(err error) int {
	if err == nil {
		return ExitOK
	}
	for e := err; e != nil; {
		u, ok := errors.AsType[*Error](e)
		if !ok {
			break
		}
		if u.Code != 0 {
			return u.Code
		}
		e = u.Err
	}
	return ExitError
}

// Report prints an error and its hints for people. Errors joined by
// errors.Join come one to a line.
func Report(w io.Writer, err error) {
	if err == nil || errors.Is(err, ErrSilent) {
		return
	}
	for line := range strings.SplitSeq(strings.TrimRight(err.Error(), "\n"), "\n") {
		fmt.Fprintf(w, "rubus: error: %s\n", line)
	}
	told := map[string]bool{}
	for _, h := range Hints(err) {
		for line := range strings.SplitSeq(h, "\n") {
			if !told[line] {
				fmt.Fprintf(w, "rubus: hint: %s\n", line)
			}
			told[line] = true
		}
	}
}

// Hints collects the hints of an error and of those it wraps, outermost first.
// An error of another package brings its own with a method Hint() string.
func Hints(err error) []string {
	var out []string
	if e, ok := err.(*Error); ok { //nolint:errorlint // the tree is walked here
		out = append(out, e.Hints...)
	}
	if e, ok := err.(interface{ Hint() string }); ok && e.Hint() != "" {
		out = append(out, e.Hint())
	}
	switch u := err.(type) { //nolint:errorlint // the tree is walked here
	case interface{ Unwrap() error }:
		if in := u.Unwrap(); in != nil {
			out = append(out, Hints(in)...)
		}
	case interface{ Unwrap() []error }:
		for _, in := range u.Unwrap() {
			out = append(out, Hints(in)...)
		}
	}
	return out
}
