// SPDX-License-Identifier: Apache-2.0

// Helm's own code without its 180 CPU seconds of commands for clusters: lint a chart, or render it as `helm template`.
//
//	chart lint CHART [VALUES…]
//	chart template RELEASE NAMESPACE CHART [VALUES…]
package main

import (
	"fmt"
	"os"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	"helm.sh/helm/v3/pkg/releaseutil"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "lint" {
		check(os.Args[2], values(os.Args[3:]))
	} else if len(os.Args) > 4 && os.Args[1] == "template" {
		render(os.Args[2], os.Args[3], os.Args[4], values(os.Args[5:]))
	} else {
		fail("chart lint CHART [VALUES…], or chart template RELEASE NAMESPACE CHART [VALUES…]")
	}
}

func check(chart string, given chartutil.Values) {
	found := lint.All(chart, given, "ayaflow", true)
	for _, message := range found.Messages {
		fmt.Println(message)
	}
	if found.HighestSeverity >= support.WarningSev {
		os.Exit(1)
	}
}

func render(name, namespace, path string, given chartutil.Values) {
	chart, err := loader.Load(path)
	must(err)
	release := chartutil.ReleaseOptions{Name: name, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := chartutil.ToRenderValues(chart, given, release, chartutil.DefaultCapabilities)
	must(err)
	files, err := engine.Render(chart, all)
	must(err)
	_, manifests, err := releaseutil.SortManifests(files, nil, releaseutil.InstallOrder)
	must(err)
	for _, each := range manifests {
		fmt.Printf("---\n# Source: %s\n%s\n", each.Name, each.Content)
	}
}

// values of files; the later wins
func values(paths []string) chartutil.Values {
	all := chartutil.Values{}
	for _, path := range paths {
		given, err := chartutil.ReadValuesFile(path)
		must(err)
		all = chartutil.CoalesceTables(given, all)
	}
	return all
}

func must(err error) {
	if err != nil {
		fail(err.Error())
	}
}

func fail(sentence string) {
	fmt.Fprintln(os.Stderr, sentence)
	os.Exit(1)
}
