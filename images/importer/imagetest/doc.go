// Package imagetest makes what tests import: disk images in the shapes that Raspberry Pi OS, Debian and Ubuntu have, archives, and single layers.
package imagetest
