// Package overlay keeps one overlayfs mount per upper: plan, mount, probe, adopt, reset.
package overlay
