package knfsd

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// exportfs runs the host's exportfs(8).
func exportfs(ctx context.Context, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "exportfs", args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("exportfs %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return out, nil
}

// listed are the exports of ours that the host has now.
func (s *Server) listed(ctx context.Context) (map[line]bool, error) {
	out, err := exportfs(ctx, "-s")
	if err != nil {
		return nil, err
	}
	ours, _ := parse(out, s.opt.Roots)
	have := map[line]bool{}
	for _, l := range ours {
		have[l] = true
	}
	return have, nil
}

// add exports a line, or changes it. s.mu is held.
func (s *Server) add(ctx context.Context, l line) error {
	if _, err := exportfs(ctx, "-o", l.options(s.opt.Roots), l.clientName()+":"+l.path); err != nil {
		return err
	}
	for old := range s.have {
		if old.path == l.path && old.client == l.client {
			delete(s.have, old)
		}
	}
	s.have[l] = true
	return nil
}

// remove ends a line. s.mu is held.
func (s *Server) remove(ctx context.Context, l line) error {
	if _, err := exportfs(ctx, "-u", l.clientName()+":"+l.path); err != nil {
		return err
	}
	delete(s.have, l)
	return nil
}
