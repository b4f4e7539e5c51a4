package main

import (
	"os"
	"strings"
	"testing"
	"time"
)

// The servers are this program, too.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && (os.Args[1] == "serve" || os.Args[1] == "respond") {
		if err := run(os.Args[1:]); err != nil {
			os.Stderr.WriteString(err.Error() + "\n")
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// Every operation is answered by our server, and measured. How fast is for
// scripts/bench to say.
func TestEveryOperation(t *testing.T) {
	o := &options{dir: t.TempDir(), run: t.TempDir(), conns: 2, window: 4, time: 20 * time.Millisecond}
	all := figures{}
	if err := measure(t.Context(), o, ours(o), all); err != nil {
		t.Fatal(err)
	}
	var table strings.Builder
	printTable(&table, all)
	for _, op := range names() {
		for _, server := range []string{"rubus", "bare"} {
			f := all[op][server]
			if len(f) != 1 || f[0].OpsPerSec <= 0 || f[0].CPU <= 0 || f[0].P99 < f[0].P50 {
				t.Errorf("%s of %s: %+v", op, server, f)
			}
		}
		if !strings.Contains(table.String(), op) {
			t.Errorf("%s is not in the table", op)
		}
	}
}
