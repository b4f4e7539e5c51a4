package main

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"

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
	if !h.fleet.IsBoard(ctx, r.Client.Addr()) {
		return nil, tftp.ErrSilent
	}
	f, err := h.fleet.Open(ctx, boot.FileRequest{Path: r.Path, Client: r.Client.Addr(), Server: r.Server})
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
