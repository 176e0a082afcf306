// Package clients are programs that call AWS through the SDKs of five
// languages, each with its default chain and nothing else, as any program in a
// notebook does. The SDKs are what their registries offer, at pinned versions.
package clients

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Client is one program that talks to AWS.
type Client struct {
	Name  string
	Agent string // how its user agent begins: that it is what its name says
	Args  []string
	Env   []string
	Skip  string // why it cannot run here
	Quick bool   // it may be run many times

	// FallsThrough: when credential_process fails it asks elsewhere. For the
	// others that is the end.
	FallsThrough bool
	// NoTokenFile: its release knows AWS_CONTAINER_CREDENTIALS_FULL_URI and no
	// AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE.
	NoTokenFile bool
	// WantsSlash: its release appends to AWS_EC2_METADATA_SERVICE_ENDPOINT without
	// a slash between. Java appends with one, whatever there is.
	WantsSlash bool
	// NotBoth: with container credentials in the environment it never asks the
	// instance metadata service, even when they fail.
	NotBoth bool
}

// All lists every client, with the reason where one cannot run. bin is the
// directory of our own programs, ca the file of the authority to be trusted.
func All(bin, ca string) ([]Client, error) {
	dirs, skips, err := places()
	if err != nil {
		return nil, err
	}
	python := func(args ...string) []string {
		args[0] = filepath.Join(dirs["python"], args[0])
		return append([]string{dirs["python"] + "/venv/bin/python"}, args...)
	}
	java := []string{"java", "-cp", dirs["java"] + ":" + dirs["java"] + "/lib/*", "Identity"}
	return []Client{
		{Name: "boto3, newest", Agent: "Boto3/", Args: python("identity.py"), Skip: skips["python"], Quick: true},
		{Name: "boto3, Debian's", Agent: "Boto3/1.26.", Args: []string{"/usr/bin/python3", dirs["python"] + "/identity.py"},
			Skip: either(skips["python"], absent("/usr/lib/python3/dist-packages/boto3", "python3-boto3")), NoTokenFile: true},
		{Name: "ipykernel + boto3", Agent: "Boto3/", Args: python("notebook.py", "python3"), Skip: skips["python"]},
		{Name: "AWS CLI v1", Agent: "aws-cli/1.", Args: python("venv/bin/aws", "s3", "ls"), Skip: skips["python"]},
		{Name: "AWS CLI v2", Agent: "aws-cli/2.", Args: []string{"/usr/bin/aws", "sts", "get-caller-identity"}, Skip: absent("/usr/bin/aws", "awscli"), NoTokenFile: true, WantsSlash: true},
		{Name: "pyarrow (C++ SDK)", Agent: "aws-sdk-cpp/", Args: python("listing.py"), Skip: skips["python"], FallsThrough: true, NotBoth: true},
		{Name: "Go SDK v2", Agent: "aws-sdk-go-v2/", Args: []string{bin + "/whoami"}, Quick: true},
		// Node's roots are compiled in; there is no file to put the authority's
		// certificate into.
		{Name: "JavaScript SDK v3", Agent: "aws-sdk-js/3.", Args: []string{"node", dirs["js"] + "/identity.js"},
			Env: []string{"NODE_EXTRA_CA_CERTS=" + ca}, Skip: skips["js"], Quick: true, FallsThrough: true, NotBoth: true},
		{Name: "Java SDK v2", Agent: "aws-sdk-java/2.", Args: java, Skip: skips["java"], FallsThrough: true},
	}, nil
}

// places says where each part lies, or why it is not there.
func places() (dirs, skips map[string]string, err error) {
	dirs, skips = map[string]string{}, map[string]string{}
	for _, p := range parts() {
		if tool := p.missing(); tool != "" {
			skips[p.name] = fmt.Sprintf("the program %s is not installed", tool)
			continue
		}
		if dirs[p.name], err = p.dir(); err != nil {
			return nil, nil, err
		}
	}
	return dirs, skips, nil
}

// The system's bundle, which Go, pyarrow and most of Debian use, and the one in
// Debian's botocore.
var bundles = []string{"/etc/ssl/certs/ca-certificates.crt", "/usr/lib/python3/dist-packages/botocore/cacert.pem"}

// storeName is what Python packages call the bundle that they bring along.
const storeName = "cacert.pem"

// TrustStores lists the PEM bundles from which the clients take the
// authorities that they trust: the system's, and every one that a package has
// brought along (AWS CLI v1 has a botocore of its own). Java's is not among
// them, nor Node's, which is compiled in.
func TrustStores() ([]string, error) {
	var found []string
	for _, path := range bundles {
		if _, err := os.Stat(path); err == nil {
			found = append(found, path)
		}
	}
	dirs, _, err := places()
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
			if err == nil && entry.Name() == storeName && entry.Type().IsRegular() {
				found = append(found, path)
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return found, nil
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
