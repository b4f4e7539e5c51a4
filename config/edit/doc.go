// Package edit changes devices in the text of devices.yaml, and leaves all else in it as it is.
package edit
