package main

// want is what an attempt must come to, besides no call without the name.
type want int

const (
	either  want = iota
	named        // there are calls: it works, under the right name
	refused      // it fails, and there is no call
)

// attempt is one try. The user runs the script in a home of their own that has
// a copy of what the daemon wrote to ~/.aws, after the prelude.
type attempt struct {
	name, script string
	want         want
	box          string // the container behind a bridge in which it is made, as root
	own          bool   // in the home that the daemon attends
}

// prelude is what the scripts have in common. IMDS gives a document with
// credentials, which keys uses; a call is what counts, not a document.
const prelude = `
R=/latest/meta-data/iam/security-credentials/
T=X-aws-ec2-metadata-token
get() { curl -gsSf -m 5 --path-as-is "$@"; }
token() { get -X PUT -H "$T-ttl-seconds: ${2:-60}" "$1/latest/api/token"; }
v1() { role=$(get "$1$R") && get "$1$R$role"; }
v2() { t=$(token "$1") && role=$(get -H "$T: $t" "$1$R") && get -H "$T: $t" "$1$R$role"; }
field() { printf %s "$doc" | tr -d '\n' | sed -n "s/.*\"$1\" *: *\"\([^\"]*\)\".*/\1/p"; }
keys() {
  doc=$(cat)
  id=$(field AccessKeyId) key=$(field SecretAccessKey) session=$(field Token)
  [ -n "$session" ] || session=$(field SessionToken)
  [ -n "$id" ] || return 1
  AWS_ACCESS_KEY_ID=$id AWS_SECRET_ACCESS_KEY=$key AWS_SESSION_TOKEN=$session "$WHO"
}
NOBODY=AWS_CONFIG_FILE=/dev/null
FACE=http://127.0.0.1:938
BOX=http://127.0.0.1:937/v1/container-credentials
profile() { mkdir -p "$HOME/.aws"; printf '%s\n' "$@" >>"$HOME/.aws/config"; }
alone() { printf '%s\n' "$@" >"$HOME/mine"; export AWS_CONFIG_FILE="$HOME/mine"; }
ROLE=arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole
`

// openly are made while the daemon runs and all is well.
func openly() []attempt {
	var all []attempt
	for _, group := range [][]attempt{metadata(), containers(), environment(), leftovers(), claims(), faceTricks(), machine()} {
		all = append(all, group...)
	}
	return all
}

// metadata goes to the platform's metadata service.
func metadata() []attempt {
	return []attempt{
		{name: "IMDSv2, curl", script: `v2 $V4 | keys`, want: named},
		{name: "IMDSv1, curl", script: `v1 $V4 | keys`, want: refused},
		{name: "IMDSv2 over IPv6, curl", script: `v2 $V6 | keys`, want: named},
		{name: "IMDSv1 over IPv6, curl", script: `v1 $V6 | keys`, want: refused},
		{name: "IMDSv2, TCP socket (Go)", script: `$RAID ask $V4 plain | keys`, want: named},
		{name: "IMDSv2, TCP socket over IPv6 (Go)", script: `$RAID ask $V6 plain | keys`, want: named},
		{name: "IMDSv2, MPTCP socket", script: `$RAID ask $V4 mptcp | keys`, want: named},
		{name: "IMDSv2, MPTCP socket over IPv6", script: `$RAID ask $V6 mptcp | keys`, want: named},
		{name: "IMDSv2, data in the first segment (TCP fast open)", script: `$RAID ask $V4 fastopen | keys`},
		{name: "IMDSv2, socket bound to eth0", script: `$RAID ask $V4 device | keys`},
		{name: "IMDSv2, link-local source address", script: `$RAID ask $V4 freebind | keys`},
		{name: "IMDSv2, source port below 1024", script: `$RAID ask $V4 privileged | keys`, want: refused},
		{name: "IMDSv1, socket (Python)", want: refused, script: `/usr/bin/python3 -c 'import socket
s = socket.create_connection(("169.254.169.254", 80), 5)
s.sendall(b"GET /latest/meta-data/iam/security-credentials/BaseNotebookInstanceEc2InstanceRole HTTP/1.0\r\n\r\n")
print(s.recv(65536).decode())' | keys`},
		{name: "IMDS by a decimal address", script: `v2 http://2852039166 | keys`},
		{name: "IMDS by an IPv4-mapped address", script: `v2 'http://[::ffff:169.254.169.254]' | keys`},
		{name: "IMDS through the machine's own address", script: `v2 http://10.9.0.2 | keys`, want: refused},
		{name: "IMDS by the address of its host", script: `v2 http://10.9.0.1 | keys`, want: refused},
		{name: "root of a user namespace, IMDSv2", script: `unshare -Ur $RAID ask $V4 plain | keys`},
		{name: "root of a user namespace, source port below 1024", script: `unshare -Ur $RAID ask $V4 privileged | keys`, want: refused},
		{name: "root of a user and a network namespace", script: `unshare -Urn $RAID ask $V4 plain | keys`, want: refused},
		{name: "root of a user namespace enters the daemon's network", script: `unshare -Ur nsenter -t $DAEMON -n $RAID ask $V4 plain | keys`, want: refused},
	}
}

// containers are SageMaker's local mode and whatever else runs behind a bridge.
func containers() []attempt {
	return []attempt{
		{name: "container behind a bridge, IMDSv2", script: `v2 $V4 | keys`, want: named, box: box},
		{name: "container behind a bridge, IMDSv1", script: `v1 $V4 | keys`, want: refused, box: box},
		{name: "container behind a bridge, Go SDK", script: `env $NOBODY $WHO`, want: named, box: box},
		{name: "container behind a bridge, boto3", script: `env $NOBODY $BOTO`, want: named, box: box},
		{name: "container behind a bridge, JavaScript SDK", script: `env $NOBODY $NODE`, want: named, box: box},
		{name: "container behind a bridge, profile that claims bob-nb, boto3", box: box,
			script: `alone '[default]' 'credential_source = Ec2InstanceMetadata' 'role_session_name = bob-nb' "role_arn = $ROLE"; $BOTO`},
		{name: "container behind a bridge made after the fence, IMDSv2", script: `v2 $V4 | keys`, want: named, box: lateBox},
		{name: "container behind a bridge, another port of IMDS", script: `v2 $V4:8080 | keys`, want: refused, box: box},
		{name: "container behind a bridge, X-Forwarded-For", script: `get -X PUT -H "$T-ttl-seconds: 60" -H 'X-Forwarded-For: 172.17.0.2' $V4/latest/api/token`, want: refused, box: box},
		{name: "container behind a bridge, token of the notebook's other user", script: `get -H "$T: $REPLAY" $V4$R`, want: refused, box: box},
		{name: "container behind a bridge, the host's faces", script: `{ v2 http://172.17.0.1:938 || get http://172.17.0.1:937/v1/container-credentials; } | keys`, want: refused, box: box},
		{name: "container behind a bridge, the other bridge's address", script: `{ v2 http://172.18.0.1:938 || get -H 'Host: 169.254.169.254' http://172.18.0.1:938$R; } | keys`, want: refused, box: box},
	}
}

// environment points real clients away from what the daemon wrote.
func environment() []attempt {
	return []attempt{
		{name: "AWS_CONFIG_FILE=/dev/null, Go SDK", script: `env $NOBODY $WHO`, want: named},
		{name: "AWS_CONFIG_FILE=/dev/null, boto3", script: `env $NOBODY $BOTO`, want: named},
		{name: "AWS_CONFIG_FILE=/dev/null, JavaScript SDK", script: `env $NOBODY $NODE`, want: named},
		{name: "AWS_CONFIG_FILE=/dev/null, AWS CLI", script: `env $NOBODY $CLI sts get-caller-identity`, want: named},
		{name: "HOME elsewhere, Go SDK", script: `HOME=/nonexistent $WHO`, want: named},
		{name: "HOME elsewhere, boto3", script: `HOME=/nonexistent $BOTO`, want: named},
		{name: "AWS_PROFILE=other without keys, Go SDK", script: `profile '[profile other]' 'region = us-east-1'; AWS_PROFILE=other $WHO`, want: named},
		{name: "AWS_PROFILE=other without keys, boto3", script: `profile '[profile other]' 'region = us-east-1'; AWS_PROFILE=other $BOTO`, want: named},
		{name: "keys of nobody in the environment", script: `AWS_ACCESS_KEY_ID=AKIAIOSFODNN7EXAMPLE AWS_SECRET_ACCESS_KEY=x $WHO`, want: refused},
		{name: "AWS_SHARED_CREDENTIALS_FILE with junk, Go SDK", script: `echo junk >$HOME/junk; AWS_SHARED_CREDENTIALS_FILE=$HOME/junk $WHO`},
		{name: "AWS_SHARED_CREDENTIALS_FILE with junk, boto3", script: `echo junk >$HOME/junk; AWS_SHARED_CREDENTIALS_FILE=$HOME/junk $BOTO`},
		{name: "aws configure: keys of nobody", script: `$CLI configure set aws_access_key_id AKIAIOSFODNN7EXAMPLE; $CLI configure set aws_secret_access_key x; $WHO`},
		{name: "aws configure: another region", script: `$CLI configure set region us-west-2; env -u AWS_REGION $BOTO`, want: named},
		{name: "IMDS client in IPv6 mode, Go SDK", script: `env $NOBODY AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6 $WHO`, want: named},
		{name: "IMDS client in IPv6 mode, boto3", script: `env $NOBODY AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE=IPv6 $BOTO`, want: named},
		{name: "AWS_EC2_METADATA_DISABLED=true, no config", script: `env $NOBODY AWS_EC2_METADATA_DISABLED=true $WHO`, want: refused},
		{name: "Studio's container address on an instance", script: `env $NOBODY AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=/x AWS_MAX_ATTEMPTS=1 timeout 10 $WHO`, want: refused},
		{name: "calls that call themselves the daemon's", script: `env $NOBODY AWS_SDK_UA_APP_ID=nbidentityd $WHO`, want: named},
	}
}

// leftovers are keys that win, in some client or other, over the
// credential_process beside them. The daemon comments them out when it writes;
// here they stand below it, as on the copy of a home that nobody guards.
func leftovers() []attempt {
	var all []attempt
	for _, l := range []struct{ name, lines string }{
		{"role_arn, credential_source", `"role_arn = $ROLE" 'credential_source = Ec2InstanceMetadata' 'role_session_name = bob-nb'`},
		{"role_arn, source_profile", `"role_arn = $ROLE" 'source_profile = default' 'role_session_name = bob-nb'`},
		{"role_arn alone", `"role_arn = $ROLE"`},
		{"role_arn, empty", `'role_arn ='`},
		{"credential_source alone", `'credential_source = Ec2InstanceMetadata'`},
		{"web_identity_token_file, role_arn", `"role_arn = $ROLE" 'web_identity_token_file = /etc/hostname'`},
		{"keys of nobody", `'aws_access_key_id = AKIAIOSFODNN7EXAMPLE' 'aws_secret_access_key = x'`},
		{"session keys of nobody", `'aws_access_key_id = ASIAIOSFODNN7EXAMPLE' 'aws_secret_access_key = x' 'aws_session_token = x'`},
		{"aws_access_key_id alone", `'aws_access_key_id = AKIAIOSFODNN7EXAMPLE'`},
		{"sso_start_url", `'sso_start_url = https://example.awsapps.com/start' 'sso_region = us-east-1' 'sso_account_id = 111122223333' 'sso_role_name = Reader'`},
		{"sso_session", `'sso_session = corp' 'sso_account_id = 111122223333' 'sso_role_name = Reader' '[sso-session corp]' 'sso_start_url = https://example.awsapps.com/start' 'sso_region = us-east-1'`},
		{"login_session", `'login_session = arn:aws:iam::111122223333:user/alice'`},
		{"a second credential_process", `'credential_process = /bin/false'`},
		{"a second [default]", `'[default]' 'credential_source = Ec2InstanceMetadata'`},
		{"[profile default]", `'[profile default]' 'credential_source = Ec2InstanceMetadata' "role_arn = $ROLE" 'role_session_name = bob-nb'`},
	} {
		all = append(all, attempt{name: "leftover " + l.name + ": boto3, Go, JavaScript", script: "profile " + l.lines + everyQuick})
	}
	const credentials = `printf '%s\n' '[default]' `
	for _, l := range []struct{ name, lines string }{
		{"keys of nobody", `'aws_access_key_id = AKIAIOSFODNN7EXAMPLE' 'aws_secret_access_key = x'`},
		{"credential_process that fails", `'credential_process = /bin/false'`},
		{"role_arn, credential_source", `'credential_source = Ec2InstanceMetadata' "role_arn = $ROLE" 'role_session_name = bob-nb'`},
	} {
		all = append(all, attempt{name: "leftover in credentials, " + l.name + ": boto3, Go, JavaScript",
			script: credentials + l.lines + ` >~/.aws/credentials` + everyQuick})
	}
	return all
}

// everyQuick ends a script with a call by each quick client.
const everyQuick = `; $BOTO & $WHO & $NODE & wait`

// claims are for another's name, or for none.
func claims() []attempt {
	const bob = `'role_session_name = bob-nb' "role_arn = $ROLE"`
	return []attempt{
		{name: "profile that claims bob-nb by credential_source, boto3", script: `alone '[default]' 'credential_source = Ec2InstanceMetadata' ` + bob + `; $BOTO`},
		{name: "profile that claims bob-nb by credential_source, Go SDK", script: `alone '[default]' 'credential_source = Ec2InstanceMetadata' ` + bob + `; $WHO`},
		{name: "profile that claims bob-nb by credential_source, JavaScript SDK", script: `alone '[default]' 'credential_source = Ec2InstanceMetadata' ` + bob + `; $NODE`},
		{name: "profile that claims bob-nb by credential_source, AWS CLI", script: `alone '[default]' 'credential_source = Ec2InstanceMetadata' ` + bob + `; $CLI s3 ls`},
		{name: "profile bob with source_profile = default, boto3", script: `profile '[profile bob]' 'source_profile = default' ` + bob + `; AWS_PROFILE=bob $BOTO`},
		{name: "profile bob with source_profile = default, Go SDK", script: `profile '[profile bob]' 'source_profile = default' ` + bob + `; AWS_PROFILE=bob $WHO`},
		{name: "web identity without a provider", script: `echo x >$HOME/jwt; env $NOBODY AWS_ROLE_ARN=$ROLE AWS_WEB_IDENTITY_TOKEN_FILE=$HOME/jwt AWS_ROLE_SESSION_NAME=bob-nb $BOTO`, want: refused},
		{name: "AssumeRole as bob-nb", script: `$CLI sts assume-role --role-arn $ROLE --role-session-name bob-nb --source-identity bob-nb | keys`},
		{name: "AssumeRole as bob-nb without a source identity", script: `$CLI sts assume-role --role-arn $ROLE --role-session-name bob-nb | keys`},
		{name: "AssumeRole as SageMaker", script: `$CLI sts assume-role --role-arn $ROLE --role-session-name SageMaker | keys`},
		{name: "AssumeRole into the own name again", script: `$CLI sts assume-role --role-arn $ROLE --role-session-name alice-nb --source-identity alice-nb | keys`, want: named},
		{name: "nbidentity by hand", script: `$NB --socket $SOCK credentials | keys`, want: named},
	}
}

// faceTricks are for the daemon's own doors.
func faceTricks() []attempt {
	return []attempt{
		{name: "IMDS face without a token (v1)", script: `v1 $FACE | keys`, want: refused},
		{name: "IMDS face, Host of another site", script: `v2() { get -X PUT -H "$T-ttl-seconds: 60" -H 'Host: evil.example' $FACE/latest/api/token; }; v2 | keys`, want: refused},
		{name: "IMDS face, X-Forwarded-For", script: `get -X PUT -H "$T-ttl-seconds: 60" -H 'X-Forwarded-For: 127.0.0.1' $FACE/latest/api/token`, want: refused},
		{name: "IMDS face, a browser page's request", script: `t=$(token $FACE); get -H "$T: $t" -H 'Origin: https://evil.example' -H 'Referer: https://evil.example/' -H 'Sec-Fetch-Site: cross-site' $FACE$R`, want: refused},
		{name: "IMDS, a browser page's request to the platform's address", script: `get -X PUT -H "$T-ttl-seconds: 60" -H 'Origin: https://evil.example' $V4/latest/api/token`, want: refused},
		{name: "IMDS face, made-up token", script: `get -H "$T: AQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA" $FACE$R`, want: refused},
		{name: "IMDS face, expired token", script: `t=$(token $FACE 1); sleep 2; get -H "$T: $t" $FACE$R`, want: refused},
		{name: "IMDS face, another user's token", script: `get -H "$T: $REPLAY" $FACE$R`, want: refused},
		{name: "IMDS face, token of the platform from before the fence", script: `get -H "$T: $OLDTOKEN" $V4$R`, want: refused},
		{name: "IMDS face, two tokens", script: `t=$(token $FACE); get -H "$T: $t" -H "$T: x" $FACE$R`, want: refused},
		{name: "IMDS face, the platform's other credentials", script: `t=$(token $V4); get -H "$T: $t" $V4/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance`, want: refused},
		{name: "IMDS face, path with dots to the platform's role", script: `t=$(token $V4); get -H "$T: $t" $V4/latest/meta-data/placement/../iam/security-credentials/BaseNotebookInstanceEc2InstanceRole`, want: refused},
		{name: "IMDS face, path with escapes to the platform's role", script: `t=$(token $V4); get -H "$T: $t" $V4/latest/meta-data/placement%2f..%2fiam/security-credentials/BaseNotebookInstanceEc2InstanceRole`, want: refused},
		{name: "IMDS face as a proxy", script: `t=$(token $FACE); get -x $FACE -H "$T: $t" $V4/latest/meta-data/iam/security-credentials/BaseNotebookInstanceEc2InstanceRole`, want: refused},
		{name: "container face, own token by a real client", script: `env $NOBODY AWS_CONTAINER_CREDENTIALS_FULL_URI=$BOX AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=$TOKEN $WHO`, want: named},
		{name: "container face without a token", script: `get $BOX | keys`, want: refused},
		{name: "container face, wrong token", script: `get -H 'Authorization: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA' $BOX | keys`, want: refused},
		{name: "container face, another user's token", script: `get -H "Authorization: $STOLEN" $BOX | keys`, want: refused},
		{name: "container face, Host of another site", script: `get -H "Authorization: $(cat $TOKEN)" -H 'Host: evil.example:937' $BOX | keys`, want: refused},
		{name: "container face, Origin", script: `get -H "Authorization: $(cat $TOKEN)" -H 'Origin: https://evil.example' $BOX | keys`, want: refused},
		{name: "another user's token file", script: `cat $OTHER`, want: refused},
		{name: "own token file replaced by a link", script: `ln -sf /etc/passwd $TOKEN`, want: refused},
	}
}

// machine attacks the daemon, its files and the fence.
func machine() []attempt {
	attempts := []attempt{
		{name: "ptrace attach", script: `$RAID trace $DAEMON`, want: refused},
		{name: "kill, from a user namespace", script: `unshare -Ur kill -KILL $DAEMON`, want: refused},
		{name: "state directory, list", script: `ls $STATE`, want: refused},
		{name: "state directory, read discovery.json", script: `cat $STATE/discovery.json`, want: refused},
		{name: "state directory, write discovery.json", script: `echo '{}' >$STATE/discovery.json`, want: refused},
		{name: "settings file, write", script: `echo 'state_dir = "/tmp"' >>$SETTINGS`, want: refused},
		{name: "settings file, replace", script: `mv $HOME/.aws/config $SETTINGS </dev/null`, want: refused},
		{name: "metadata file, claim to be bob-nb", script: `sed -i s/alice-nb/bob-nb/ $METADATA`, want: refused},
		{name: "socket, remove", script: `rm -f $SOCK`, want: refused},
		{name: "socket, bind over it", script: `$RAID bind $SOCK`, want: refused},
		{name: "daemon of one's own as root of a user namespace", script: `timeout 10 unshare -Ur $DAEMONBIN run -settings $SETTINGS`, want: refused},
		{name: "fence, flush", script: `nft flush ruleset`, want: refused},
		{name: "fence, flush as root of a user namespace", script: `unshare -Ur nft flush ruleset`, want: refused},
		{name: "fence, flush in a network of one's own", script: `unshare -Urn nft flush ruleset; v2 $V4 | keys`, want: named},
		{name: "a way round: route", script: `ip route add 169.254.169.254 via 10.9.0.1`, want: refused},
		{name: "a way round: address translation", script: `nft add table ip mine`, want: refused},
		{name: "sudo without a password", script: `sudo -n true`, want: refused},
		{name: "su without a password", script: `su -c true </dev/null`, want: refused},
		{name: "Docker's socket", script: `get --unix-socket /run/docker.sock http://d/version`, want: refused},
		{name: "entering the daemon's namespaces", script: `nsenter -t $DAEMON -m -n true`, want: refused},
		{name: "a file over nbidentity", script: `cp /bin/false $NB`, want: refused},
		{name: "nbidentity over-mounted in a user namespace", script: `unshare -Urm sh -c "mount --bind /bin/false $NB; $WHO"`},
	}
	for _, file := range []string{"mem", "environ", "maps", "auxv", "stack"} {
		attempts = append(attempts, attempt{name: "/proc/PID/" + file, script: `head -c 16 /proc/$DAEMON/` + file, want: refused})
	}
	for _, dir := range []string{"fd", "root/", "cwd/", "map_files"} {
		attempts = append(attempts, attempt{name: "/proc/PID/" + dir, script: `ls /proc/$DAEMON/` + dir, want: refused})
	}
	for _, signal := range []string{"TERM", "KILL", "STOP", "HUP", "QUIT", "ABRT"} {
		attempts = append(attempts, attempt{name: "kill -" + signal, script: `kill -` + signal + ` $DAEMON`, want: refused})
	}
	for _, address := range []string{"127.0.0.1:938", "[::1]:938", "127.0.0.1:937", "169.254.169.254:80"} {
		attempts = append(attempts, attempt{name: "squat " + address, script: `$RAID bind ` + address, want: refused})
	}
	return attempts
}

// atHome are made in the home that the daemon attends. Moving is tried with
// whatever means: where one is refused, the client still calls.
func atHome() []attempt {
	return []attempt{
		{name: "mv ~/.aws, Go SDK", own: true, script: `mv ~/.aws ~/.gone; $WHO`, want: named},
		{name: "mv ~/.aws and a config of one's own, boto3", own: true, script: `mv ~/.aws ~/.gone; mkdir ~/.aws; echo '[default]' >~/.aws/config; $BOTO`, want: named},
		{name: "rm -r ~/.aws, boto3", own: true, script: `rm -rf ~/.aws; $BOTO`, want: named},
		{name: "rm -r ~/.aws, AWS CLI", own: true, script: `rm -rf ~/.aws; $CLI s3 ls`, want: named},
		{name: "~/.aws/config a link to nothing, Go SDK", own: true, script: `ln -sf /dev/null ~/.aws/config; $WHO`, want: named},
		{name: "~/.aws a link to a directory of one's own", own: true, script: `mv ~/.aws ~/.gone; mkdir ~/empty; ln -s ~/empty ~/.aws; $BOTO`, want: named},
		{name: "~/.aws/config emptied in place, JavaScript SDK", own: true, script: `: >~/.aws/config; $NODE`, want: named},
		{name: "~/.aws/config emptied through a hard link", own: true, script: `ln ~/.aws/config ~/hard; : >~/hard; $WHO`, want: named},
		{name: "~/.aws/config rewritten through mmap", own: true, want: named, script: `/usr/bin/python3 -c 'import mmap, os
f = open(os.path.expanduser("~/.aws/config"), "r+b")
m = mmap.mmap(f.fileno(), 0)
m[:] = b"#" * len(m)
m.flush()'; $WHO`},
		{name: "keys of nobody in ~/.aws/credentials", own: true, script: `printf '[default]\naws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = x\n' >~/.aws/credentials; $WHO`},
	}
}
