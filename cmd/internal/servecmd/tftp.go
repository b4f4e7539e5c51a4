package servecmd

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"path"
	"strings"
	"time"

	"rubus/boot"
	"rubus/boot/neigh"
	"rubus/boot/tftp"
)

// files lets the fleet open what boards ask for.
type files struct {
	fleet *boot.Fleet
	neigh *neigh.Table
	log   *slog.Logger
}

// Open implements tftp.Handler.
func (h files) Open(ctx context.Context, r tftp.Request) (tftp.File, error) {
	f, err := h.fleet.Open(ctx, boot.FileRequest{Path: r.Path, Client: r.Client.Addr(), Server: r.Server})
	if err == nil && strings.TrimLeft(r.Path, "/") == "bootcode.bin" {
		h.pin(ctx, r)
	}
	switch {
	case err == nil:
		return f, nil
	case errors.Is(err, boot.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return nil, tftp.ErrNotFound
	case errors.Is(err, boot.ErrRefused):
		// Told apart in the log; to the firmware a file it may not have is none.
		return nil, tftp.ErrNotFound
	}
	return nil, err
}

// pin keeps the board's neighbour entry while it loads its second stage: the
// ROM of a Pi 3 answers no ARP meanwhile, and a server that asks stalls.
func (h files) pin(ctx context.Context, r tftp.Request) {
	mac, ok := h.neigh.Owner(ctx, r.Client.Addr())
	if !ok {
		return
	}
	if err := h.neigh.Pin(r.Client.Addr(), mac, time.Minute); err != nil {
		h.log.Debug("a neighbour entry cannot be kept", "address", r.Client.Addr(), "err", err)
	}
}

// plainNames says which names match one of the patterns, prefix or not.
func plainNames(patterns []string) func(string) bool {
	return func(name string) bool {
		for _, p := range patterns {
			if ok, err := path.Match(p, path.Base(name)); ok && err == nil {
				return true
			}
		}
		return false
	}
}
