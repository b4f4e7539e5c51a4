package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"rubus/cmd/internal/ui"
)

// NoArgs is cobra.NoArgs with a message that says so.
func NoArgs(c *cobra.Command, args []string) error {
	if len(args) > 0 {
		return fmt.Errorf("%q takes no argument, not %q", c.CommandPath(), args[0])
	}
	return nil
}

// WantArgs wants one argument for each word in capitals of the usage line.
func WantArgs(c *cobra.Command, args []string) error {
	names := strings.Fields(c.Use)[1:]
	if len(args) == len(names) {
		return nil
	}
	if len(args) < len(names) {
		return fmt.Errorf("%q needs %s", c.CommandPath(), ui.Words(names))
	}
	return fmt.Errorf("%q takes %s only, not also %q", c.CommandPath(), ui.Words(names), args[len(names)])
}
