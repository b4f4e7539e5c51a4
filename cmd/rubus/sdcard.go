package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"rubus/boot/eeprom"
	"rubus/boot/sdcard"
	"rubus/cmd/internal/cli"
	"rubus/cmd/internal/ui"
)

// sdcardFlags is what "rubus sdcard" was asked for.
type sdcardFlags struct {
	model, output, image string
	bootcode, force      bool
	eeprom, recovery     string
	order                string
}

// newSDCardCmd is "rubus sdcard".
func newSDCardCmd(g *cli.Globals) *cobra.Command {
	var f sdcardFlags
	c := &cobra.Command{
		Use:   "sdcard --model 3b|4|5 -o FILE",
		Short: "Make the card that lets a Pi boot from the network",
		Long: `Make the image of an SD card that is put into a Pi once.

A Pi 3B needs a bit burned before its boot ROM tries the network; that cannot
be undone. With --bootcode nothing is burned: the card stays in the board and
holds a better bootcode.bin than the ROM would fetch. A Pi 3B+ needs no card.

A Pi 4 or 5 gets its bootloader written anew with another BOOT_ORDER: by
default 0xf21, the SD card first, then the network, again and again. The green
light blinks fast when that is done. Bootloader and recovery.bin are those of
the image's package rpi-eeprom, or the files named.

Write the image to a card with dd or Raspberry Pi Imager. No board was tested.`,
		Example: `  rubus sdcard --model 4 --image lab -o card.img
  rubus sdcard --model 5 --eeprom pieeprom.bin --recovery recovery.bin -o c.img
  rubus sdcard --model 3b --bootcode --image lab -o card.img`,
		Args: cli.NoArgs,
		RunE: func(*cobra.Command, []string) error { return makeCard(g, f) },
	}
	fs := c.Flags()
	fs.StringVar(&f.model, "model", "", "3b, 4 or 5; 4 is for the 400 and CM4, 5 for the 500 and CM5, too")
	fs.StringVarP(&f.output, "output", "o", "", "write the card's image to `file`")
	fs.StringVar(&f.image, "image", "", "the `image` that has the firmware")
	fs.BoolVar(&f.bootcode, "bootcode", false, "for a 3B: bootcode.bin on a card that stays in the board")
	fs.StringVar(&f.eeprom, "eeprom", "", "for a 4 or 5: a bootloader `file` (pieeprom-*.bin)")
	fs.StringVar(&f.recovery, "recovery", "", "for a 4 or 5: the recovery.bin `file` of the same release")
	fs.StringVar(&f.order, "boot-order", fmt.Sprintf("%#x", eeprom.DefaultBootOrder), "for a 4 or 5: the `order` of boot devices, read from the right")
	fs.BoolVar(&f.force, "force", false, "replace the file when it is there")
	_ = c.RegisterFlagCompletionFunc("model", cobra.FixedCompletions([]string{"3b", "4", "5"}, cobra.ShellCompDirectiveNoFileComp))
	_ = c.RegisterFlagCompletionFunc("image", g.CompleteRefs)
	return c
}

// check finds out what is wrong with the flags: the kind of card, the chip, the order.
func (f *sdcardFlags) check() (kind sdcard.Kind, chip eeprom.Chip, order uint32, err error) {
	n, err := strconv.ParseUint(f.order, 0, 32)
	if err != nil || n == 0 {
		return 0, 0, 0, ui.Usage(fmt.Errorf("boot order %q is no number", f.order), "say it like 0xf21: digits from the right, 1 is SD, 2 the network, f again")
	}
	switch f.model {
	case "3b":
		if kind = sdcard.ProgramOTP; f.bootcode {
			kind = sdcard.Bootcode
		}
	case "4":
		kind, chip = sdcard.FlashEEPROM, eeprom.BCM2711
	case "5":
		kind, chip = sdcard.FlashEEPROM, eeprom.BCM2712
	case "3b+":
		err = ui.Usage(errors.New("a Pi 3B+ boots from the network without a card"), "leave its card slot empty")
	default:
		err = ui.Usage(fmt.Errorf("no card for model %q", f.model), "say --model 3b, 4 or 5")
	}
	flash := kind == sdcard.FlashEEPROM
	switch {
	case err != nil:
	case f.output == "":
		err = ui.Usage(errors.New("where does the card's image go?"), "name a file with -o")
	case flash && f.bootcode:
		err = ui.Usagef("--bootcode is for a 3B: a Pi %s has its bootcode in the EEPROM", f.model)
	case !flash && (f.eeprom != "" || f.recovery != ""):
		err = ui.Usagef("--eeprom and --recovery are for a 4 or 5: a 3B has no EEPROM")
	case f.recovery != "" && f.eeprom == "":
		err = ui.Usage(errors.New("--recovery goes with --eeprom"), "both lie in the same directory of rpi-eeprom's release")
	case f.eeprom != "" && f.recovery == "" && f.image == "":
		err = ui.Usage(errors.New("--eeprom needs recovery.bin, too"), "name the file beside it with --recovery, or an image that has one with --image")
	case f.image == "" && f.eeprom == "":
		err = ui.Usage(errors.New("where is the firmware?"), "name an image with --image, or for a 4 or 5 the files with --eeprom and --recovery")
	}
	return kind, chip, uint32(n), err
}

func makeCard(g *cli.Globals, f sdcardFlags) error {
	kind, chip, order, err := f.check()
	if err != nil {
		return err
	}
	switch info, err := os.Lstat(f.output); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case !info.Mode().IsRegular():
		return ui.Hint(fmt.Errorf("%s is no file", f.output), "make a file, then write it to the card with dd or Raspberry Pi Imager")
	case !f.force:
		return ui.Hint(fmt.Errorf("%s is there already", f.output), "replace it with --force")
	}
	src, err := f.source(g, chip)
	if err != nil {
		return err
	}
	files, err := sdcard.Plan(kind, src, chip, order, time.Now())
	if err != nil {
		return err
	}
	if err := sdcard.Write(f.output, files); err != nil {
		return err
	}
	for _, x := range files {
		fmt.Fprintf(g.Stderr, "rubus: on the card: %s, %d bytes\n", x.Name, len(x.Data))
	}
	fmt.Fprintln(g.Stdout, f.output)
	if kind == sdcard.ProgramOTP {
		fmt.Fprintln(g.Stderr, "rubus: a Pi 3 that starts with this card has network boot enabled for good")
	}
	return nil
}

// source finds the firmware that a card is made from.
func (f *sdcardFlags) source(g *cli.Globals, chip eeprom.Chip) (src sdcard.Source, err error) {
	if f.eeprom != "" {
		if src.EEPROM, err = os.ReadFile(f.eeprom); err != nil {
			return src, err
		}
	}
	if f.recovery != "" {
		src.Recovery, err = os.ReadFile(f.recovery)
		return src, err
	}
	store, err := g.ImageStore()
	if err != nil {
		return src, err
	}
	v, err := cli.ResolveImage(store, f.image)
	if err != nil {
		return src, err
	}
	files := store.Files(v)
	if chip == 0 {
		src.Boot, err = fs.Sub(files, v.Boot)
		return src, err
	}
	dir, err := eepromDir(files, chip)
	if err != nil {
		return src, ui.Hint(fmt.Errorf("image %s has no bootloader for a %s: %w", v.Ref, chip, err),
			"install the package rpi-eeprom in the image, or name the files with --eeprom and --recovery")
	}
	if src.Recovery, err = fs.ReadFile(files, path.Join(dir, "recovery.bin")); err != nil || src.EEPROM != nil {
		return src, err
	}
	// The names carry the date of their release: the last one is the newest.
	all, err := fs.Glob(files, path.Join(dir, "pieeprom-*.bin"))
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("no pieeprom-*.bin in %s of image %s", dir, v.Ref)
	}
	if err != nil {
		return src, err
	}
	src.EEPROM, err = fs.ReadFile(files, all[len(all)-1])
	fmt.Fprintf(g.Stderr, "rubus: bootloader %s of image %s\n", filepath.Base(all[len(all)-1]), v.Ref)
	return src, err
}

// eepromDir is where the package rpi-eeprom has the bootloaders that are rolled
// out to everybody. Releases before 2023 name no chip: all are for a Pi 4.
func eepromDir(files fs.FS, chip eeprom.Chip) (string, error) {
	const base = "usr/lib/firmware/raspberrypi"
	names := []string{fmt.Sprintf("bootloader-%d", int(chip))}
	if chip == eeprom.BCM2711 {
		names = append(names, "bootloader")
	}
	var errs []error
	for _, root := range []string{base, "lib/firmware/raspberrypi"} {
		for _, name := range names {
			for _, channel := range []string{"default", "critical"} {
				dir := path.Join(root, name, channel)
				_, err := fs.Stat(files, path.Join(dir, "recovery.bin"))
				if err == nil {
					return dir, nil
				}
				errs = append(errs, err)
			}
		}
	}
	return "", errs[0]
}
