package servecmd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"rubus/boot"
	"rubus/boot/writes"
	"rubus/cmd/internal/control"
	"rubus/overlay"
)

// What went wrong has its kind on the socket, and says what can be done.
func TestControlError(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		kind control.Kind
		hint string
	}{
		"no board":       {boot.ErrNotFound, control.KindNotFound, ""},
		"nothing":        {writes.ErrNothing, control.KindNothing, "rubus device diff"},
		"refused":        {boot.ErrRefused, control.KindRefused, ""},
		"up":             {boot.ErrUp, control.KindRefused, "--force"},
		"no space":       {writes.ErrNoSpace, control.KindRefused, "rubus df"},
		"boots":          {boot.ErrBoots, control.KindBoots, "try again"},
		"late":           {context.DeadlineExceeded, control.KindBusy, ""},
		"layers missing": {&overlay.MissingLayersError{Digests: []string{"0123456789abcdef", "f00"}}, control.KindRefused, "importing the same source again"},
		"other layers":   {overlay.ErrOtherBase, control.KindRefused, "rubus backup"},
	} {
		t.Run(name, func(t *testing.T) {
			got := controlError(fmt.Errorf("doing it: %w", c.err))
			e, ok := errors.AsType[*control.Error](got)
			if !ok || e.Kind != c.kind || !strings.HasPrefix(e.Message, "doing it: ") {
				t.Fatalf("%#v", got)
			}
			if hints := strings.Join(e.Hints, " "); !strings.Contains(hints, c.hint) || c.hint == "" && hints != "" {
				t.Errorf("hints %q", hints)
			}
		})
	}
	if controlError(nil) != nil {
		t.Error("an error of nothing")
	}
	if err := errors.New("else"); controlError(err) != err { //nolint:errorlint // the very same
		t.Error("what is none of these is changed")
	}
}
