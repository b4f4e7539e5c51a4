package main

import (
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"
)

// recordSize is the length of a record: its number, over and over.
const recordSize = 512

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "writer: error:", err)
		os.Exit(1)
	}
}

// run is one of the commands that the usage lists. A storm's JOURNALS and the
// others' ACKS and STOP lie where no server that is tested has them.
func run(args []string) error {
	switch {
	case len(args) == 2 && args[0] == "sow":
		return sow(args[1])
	case len(args) == 5 && args[0] == "storm":
		return storm(args[1], args[2], args[3], args[4])
	case len(args) == 3 && args[0] == "compare":
		return compare(args[1], args[2])
	case len(args) == 4 && args[0] == "write":
		return write(args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "check":
		n, err := strconv.ParseUint(args[2], 10, 64)
		if err != nil {
			return err
		}
		return check(args[1], n)
	}
	return fmt.Errorf("usage: writer write DIR ACKS STOP | check DIR N | sow DIR | storm DIR JOURNALS SEED STOP | compare DIR JOURNALS")
}

// write appends records to DIR/log, each with its fsync, and makes and renames
// a file for every tenth. After each it writes the number to the file ACKS,
// and it ends when there is a file STOP.
func write(dir, acks, stop string) error {
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	out, err := os.Create(acks)
	if err != nil {
		return err
	}
	for n := uint64(1); ; n++ {
		if _, err := log.WriteAt(record(n), int64(n-1)*recordSize); err != nil {
			return fmt.Errorf("record %d: %w", n, err)
		}
		if err := log.Sync(); err != nil {
			return fmt.Errorf("record %d: %w", n, err)
		}
		if n%10 == 0 {
			if err := publish(dir, n); err != nil {
				return fmt.Errorf("file %d: %w", n, err)
			}
		}
		if _, err := out.WriteAt(fmt.Appendf(nil, "%020d\n", n), 0); err != nil {
			return err
		}
		if _, err := os.Stat(stop); err == nil {
			return log.Close()
		}
		// A board does not write without end either.
		time.Sleep(2 * time.Millisecond)
	}
}

func publish(dir string, n uint64) error {
	tmp := filepath.Join(dir, "tmp")
	f, err := os.Create(tmp)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Write(record(n)); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	return os.Rename(tmp, filepath.Join(dir, fmt.Sprintf("file-%d", n)))
}

// check says which of the first n records is missing or wrong.
func check(dir string, n uint64) error {
	log, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		return err
	}
	for i := uint64(1); i <= n; i++ {
		at := (i - 1) * recordSize
		if uint64(len(log)) < at+recordSize || string(log[at:at+recordSize]) != string(record(i)) {
			return fmt.Errorf("acknowledged record %d of %d is lost", i, n)
		}
		if i%10 != 0 {
			continue
		}
		b, err := os.ReadFile(filepath.Join(dir, fmt.Sprintf("file-%d", i)))
		if err != nil {
			return fmt.Errorf("acknowledged file %d of %d: %w", i, n, err)
		}
		if string(b) != string(record(i)) {
			return fmt.Errorf("acknowledged file %d of %d has other content", i, n)
		}
	}
	return nil
}

func record(n uint64) []byte {
	b := make([]byte, 0, recordSize)
	for len(b) < recordSize {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return b
}
