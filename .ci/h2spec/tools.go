//go:build tools

// Package tools names what .ci/go builds, so that go.mod can pin all that it is made of.
package tools

import _ "github.com/summerwind/h2spec/cmd/h2spec"
