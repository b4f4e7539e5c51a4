package sdcard

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/diskfs/go-diskfs/backend"
	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat32"
	"github.com/diskfs/go-diskfs/partition/mbr"
	"github.com/google/renameio/v2"

	"rubus/config/leftover"
)

// The layout of a card, in bytes. The partition has just the clusters that make
// it FAT32 for every reader (65,525 of 512 bytes) and room for the firmware.
const (
	sector    = 512
	partStart = 1 << 20
	partSize  = 63 << 20
	// Size is the size of a card's image.
	Size = partStart + partSize
)

// label is the volume's name, as a desktop shows it.
const label = "RUBUS"

// Write makes the image of a card at path, whole or not at all. It needs no
// device and no driver.
func Write(path string, files []File) error {
	var sum int64
	for _, f := range files {
		sum += int64(len(f.Data)+sector-1) &^ (sector - 1)
	}
	if sum > partSize-4<<20 { // the FATs and the directory
		return fmt.Errorf("the card's files have %d bytes; %d fit", sum, partSize-4<<20)
	}
	if err := leftover.Remove(path); err != nil {
		return fmt.Errorf("making a card: %w", err)
	}
	// Beside its place: elsewhere nobody would find what is left of it.
	t, err := renameio.NewPendingFile(path, renameio.WithPermissions(0o644), renameio.WithTempDir(filepath.Dir(path)))
	if err != nil {
		return fmt.Errorf("making a card: %w", err)
	}
	defer t.Cleanup()
	if err := fill(t.File, files); err != nil {
		return fmt.Errorf("making a card: %w", err)
	}
	if err := t.CloseAtomicallyReplace(); err != nil {
		return fmt.Errorf("making a card: %w", err)
	}
	return nil
}

func fill(f *os.File, files []File) error {
	if err := f.Truncate(Size); err != nil {
		return err
	}
	b := file.New(f, false)
	table := &mbr.Table{LogicalSectorSize: sector, PhysicalSectorSize: sector, Partitions: []*mbr.Partition{
		{Type: mbr.Fat32LBA, Start: partStart / sector, Size: partSize / sector},
	}}
	if err := table.Write(f, Size); err != nil {
		return err
	}
	vol, err := fat32.Create(backend.Sub(b, partStart, partSize), partSize, 0, sector, label, true)
	if err != nil {
		return err
	}
	for _, x := range files {
		if err := put(vol, x); err != nil {
			return fmt.Errorf("%s: %w", x.Name, err)
		}
	}
	return nil
}

func put(vol *fat32.FileSystem, x File) (err error) {
	w, err := vol.OpenFile("/"+x.Name, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, w.Close()) }()
	if len(x.Data) == 0 {
		return nil
	}
	n, err := w.Write(x.Data)
	if err == nil && n < len(x.Data) {
		err = io.ErrShortWrite
	}
	return err
}
