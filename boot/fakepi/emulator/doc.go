// Package emulator runs in QEMU what a board's firmware fetched.
package emulator
