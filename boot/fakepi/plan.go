package fakepi

import (
	"errors"
	"fmt"
	"io/fs"
)

// plan reads the file from where a server would, with the firmware's limits.
func (t *transfer) plan(files func(string) ([]byte, error)) error {
	data, err := files(t.name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &missing{1, "File not found"}
	case err != nil:
		return err
	}
	t.size, t.block = int64(len(data)), t.style.blockSize()
	if limit := t.limit(); limit > 0 && t.size > limit && !t.probe {
		return fmt.Errorf("%w: %d bytes, and 65,535 blocks of %d are all it counts", ErrTooLarge, t.size, t.block)
	}
	if t.probe {
		return nil
	}
	t.data, t.got = data, t.size
	// The last block is short, and may be empty; the options are a round trip, too.
	if t.packets = t.size/int64(t.block) + 1; t.style.tsize {
		t.packets++
	}
	return nil
}
