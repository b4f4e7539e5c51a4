package servecmd

import (
	"context"

	"rubus/boot/backup"
	"rubus/cmd/internal/control"
	"rubus/config/device"
)

// Hold implements control.Daemon.
func (d *controlled) Hold(ctx context.Context, serial device.Serial) (context.Context, func() error, error) {
	held, release, err := d.fleet.Hold(ctx, serial)
	if err != nil {
		return nil, nil, controlError(err)
	}
	return held, func() error { return controlError(release()) }, nil
}

// TakeIn implements control.Daemon.
func (d *controlled) TakeIn(ctx context.Context, serial device.Serial, stage string) (control.TakenIn, error) {
	dir, ok := backup.TakeInDir(d.state, stage, serial)
	if !ok {
		return control.TakenIn{}, control.Errorf(control.KindInvalid, "%q is no stage of a restore", stage)
	}
	t, err := d.fleet.TakeIn(ctx, serial, dir)
	return control.TakenIn(t), controlError(err)
}
