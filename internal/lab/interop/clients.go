package main

import (
	"fmt"
	"os"
	"path/filepath"
)

// client is one program that talks to AWS through its SDK's default chain.
type client struct {
	name  string
	agent string // how its user agent begins: that it is what its name says
	args  []string
	env   []string
	skip  string // why it cannot run here
	// quick ones try every leftover configuration as well.
	quick bool
}

// allClients lists every client, with the reason where one cannot run.
func allClients(bin, ca string) ([]client, error) {
	dirs, skips := map[string]string{}, map[string]string{}
	for _, p := range parts() {
		if tool := p.missing(); tool != "" {
			skips[p.name] = fmt.Sprintf("the program %s is not installed", tool)
			continue
		}
		dir, err := p.dir()
		if err != nil {
			return nil, err
		}
		dirs[p.name] = dir
	}
	python := func(args ...string) []string {
		args[0] = filepath.Join(dirs["python"], args[0])
		return append([]string{dirs["python"] + "/venv/bin/python"}, args...)
	}
	java := []string{"java", "-cp", dirs["java"] + ":" + dirs["java"] + "/lib/*", "Identity"}
	return []client{
		{name: "boto3, newest", agent: "Boto3/", args: python("identity.py"), skip: skips["python"], quick: true},
		{name: "boto3, Debian's", agent: "Boto3/1.26.", args: []string{"/usr/bin/python3", dirs["python"] + "/identity.py"},
			skip: either(skips["python"], absent("/usr/lib/python3/dist-packages/boto3", "python3-boto3"))},
		{name: "ipykernel + boto3", agent: "Boto3/", args: python("notebook.py", "python3"), skip: skips["python"]},
		{name: "AWS CLI v1", agent: "aws-cli/1.", args: python("venv/bin/aws", "s3", "ls"), skip: skips["python"]},
		{name: "AWS CLI v2", agent: "aws-cli/2.", args: []string{"/usr/bin/aws", "sts", "get-caller-identity"}, skip: absent("/usr/bin/aws", "awscli")},
		{name: "pyarrow (C++ SDK)", agent: "aws-sdk-cpp/", args: python("listing.py"), skip: skips["python"]},
		{name: "Go SDK v2", agent: "aws-sdk-go-v2/", args: []string{bin + "/whoami"}, quick: true},
		// Node's roots are compiled in; there is no file to put the authority's
		// certificate into.
		{name: "JavaScript SDK v3", agent: "aws-sdk-js/3.", args: []string{"node", dirs["js"] + "/identity.js"},
			env: []string{"NODE_EXTRA_CA_CERTS=" + ca}, skip: skips["js"], quick: true},
		{name: "Java SDK v2", agent: "aws-sdk-java/2.", args: java, skip: skips["java"]},
	}, nil
}

func either(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// absent says that a Debian package is not there, or nothing.
func absent(path, debianPackage string) string {
	if _, err := os.Stat(path); err != nil {
		return "Debian's package " + debianPackage + " is not installed"
	}
	return ""
}
