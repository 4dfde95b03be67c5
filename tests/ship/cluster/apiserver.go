// SPDX-License-Identifier: Apache-2.0

// kube-apiserver as Kubernetes builds it, for the tests alone: go.mod says which version.
package main

import (
	"os"

	"k8s.io/component-base/cli"
	"k8s.io/kubernetes/cmd/kube-apiserver/app"
)

func main() { os.Exit(cli.Run(app.NewAPIServerCommand())) }
