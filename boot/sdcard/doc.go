// Package sdcard makes the card that is put into a Pi once, so that it boots
// from the network ever after.
package sdcard
