// Package overlay keeps one overlayfs mount per serial: plan, mount, probe, adopt, reset.
package overlay
