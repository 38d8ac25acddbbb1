//go:build client

// Package official pins the official client: go.mod names its version, go.sum its content.
package official

import _ "code.cloudfoundry.org/cli/v8"
