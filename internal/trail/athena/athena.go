// Package athena writes the SQL that answers on Amazon Athena, or any Trino, what
// package trail answers on one machine: the table over CloudTrail's files and the
// queries that resolve each call to a name.
//
// It guarantees: the queries answer a call exactly as the local run does, or say that
// they leave it to the local run; the same settings give the same text; no setting can
// break out of its place in the text. They leave to the local run: sessions more than
// eight AssumeRole calls away from where their chain began, circular chains, sessions
// that Lake Formation lent to several queries of which one is already of two names, who
// opened a notebook, jobs at which only a log hints, the story behind each conflict,
// records without an event ID, and names that were written by a template other than
// {name}. They are ordinary SELECTs and CREATE TABLE AS; Athena runs one statement a
// request, in their order.
//
// It relies on these parts of the documentation: CloudTrail's JsonSerDe maps fields by
// name, so that fields missing in AWS's published DDL can be added; partition
// projection needs no crawler; requestParameters, responseElements and
// additionalEventData are JSON text; WITH RECURSIVE goes ten deep at the most.
package athena

import (
	_ "embed"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/lazyregexp"
)

// Trail says where CloudTrail delivers.
type Trail struct {
	Bucket       string   // s3://bucket or s3://bucket/prefix, without AWSLogs
	Accounts     []string // of which records are wanted
	Regions      []string
	Organization string // o-..., "" for a trail of one account
}

// Example is a trail for text in which the reader fills in the own one.
func Example() Trail {
	return Trail{Bucket: "s3://amzn-s3-demo-bucket", Accounts: []string{"111122223333"}, Regions: []string{"us-east-1"}}
}

var (
	bucketPattern       = lazyregexp.New(`^s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[A-Za-z0-9!_.=-]+)*/?$`)
	accountPattern      = lazyregexp.New(`^[0-9]{12}$`)
	regionPattern       = lazyregexp.New(`^[a-z]{2,4}(-[a-z]{2,16}){1,3}-[0-9]{1,2}$`)
	organizationPattern = lazyregexp.New(`^o-[a-z0-9]{10,32}$`)
)

// Check returns an error, of one line, that says what is wrong with a setting.
func (t Trail) Check() error {
	if !bucketPattern.MatchString(t.Bucket) {
		return fmt.Errorf("bucket %.80q: expected s3://bucket or s3://bucket/prefix, with letters, digits and ! _ . = - in the prefix", t.Bucket)
	}
	if strings.Contains(t.Bucket+"/", "/AWSLogs/") {
		return fmt.Errorf("bucket %.80q: leave out AWSLogs and what follows it", t.Bucket)
	}
	if len(t.Accounts) == 0 || len(t.Regions) == 0 {
		return errors.New("expected at least one account and one region")
	}
	for _, account := range t.Accounts {
		if !accountPattern.MatchString(account) {
			return fmt.Errorf("account %.80q: expected 12 digits", account)
		}
	}
	for _, region := range t.Regions {
		if !regionPattern.MatchString(region) {
			return fmt.Errorf("region %.80q: expected one such as us-east-1", region)
		}
	}
	if t.Organization != "" && !organizationPattern.MatchString(t.Organization) {
		return fmt.Errorf("organization %.80q: expected one such as o-abcdefghij", t.Organization)
	}
	return nil
}

//go:embed who.sql
var queries string

// Queries returns the statements after the table's, in order, each with the comment
// before it and without a semicolon. They read the table cloudtrail_logs and make tables
// whose names begin with who_.
func Queries() []string {
	statements := strings.Split(strings.TrimSpace(queries), ";\n")
	for i, s := range statements {
		statements[i] = strings.TrimSuffix(strings.TrimSpace(s), ";")
	}
	return statements
}

// Write writes everything: the table and the queries. The error is that of
// [Trail.Check], or the writer's.
func Write(w io.Writer, t Trail) error {
	table, err := t.table()
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString(preface)
	for _, s := range append([]string{table}, Queries()...) {
		b.WriteString("\n" + s + ";\n")
	}
	_, err = io.WriteString(w, b.String())
	return err
}

const preface = `-- Who made which calls, from CloudTrail, on Athena (engine version 3) or Trino.
-- Run the statements one after another. The first describes the files, the last two
-- show; the others make the tables who_*, which have to be dropped before another run.
`

// table returns the statement that makes the table over the files. Hive's grammar.
func (t Trail) table() (string, error) {
	if err := t.Check(); err != nil {
		return "", err
	}
	root := strings.TrimSuffix(t.Bucket, "/") + "/AWSLogs/"
	if t.Organization != "" {
		root += t.Organization + "/"
	}
	return strings.NewReplacer(
		"ROOT", root, "ACCOUNTS", strings.Join(t.Accounts, ","), "REGIONS", strings.Join(t.Regions, ","),
	).Replace(ddl), nil
}

const ddl = `-- 0. The table over CloudTrail's files. AWS's own DDL has no sourceidentity. The
-- partitions are made up from account, region and day, so that nothing has to be
-- loaded. Digest and insight files are in other folders.
CREATE EXTERNAL TABLE cloudtrail_logs (
  eventversion STRING,
  useridentity STRUCT<
    type:STRING,
    principalid:STRING,
    arn:STRING,
    accountid:STRING,
    invokedby:STRING,
    accesskeyid:STRING,
    username:STRING,
    onbehalfof:STRUCT<userid:STRING,identitystorearn:STRING>,
    inscopeof:STRUCT<sourcearn:STRING,sourceaccount:STRING,issuertype:STRING,credentialsissuedto:STRING>,
    sessioncontext:STRUCT<
      attributes:STRUCT<mfaauthenticated:STRING,creationdate:STRING>,
      sessionissuer:STRUCT<type:STRING,principalid:STRING,arn:STRING,accountid:STRING,username:STRING>,
      ec2roledelivery:STRING,
      webidfederationdata:STRUCT<federatedprovider:STRING,attributes:map<string,string>>,
      sourceidentity:STRING>>,
  eventtime STRING,
  eventsource STRING,
  eventname STRING,
  awsregion STRING,
  sourceipaddress STRING,
  useragent STRING,
  errorcode STRING,
  errormessage STRING,
  requestparameters STRING,
  responseelements STRING,
  additionaleventdata STRING,
  requestid STRING,
  eventid STRING,
  resources ARRAY<STRUCT<arn:STRING,accountid:STRING,type:STRING>>,
  eventtype STRING,
  readonly STRING,
  recipientaccountid STRING,
  sharedeventid STRING,
  vpcendpointid STRING
)
PARTITIONED BY (account STRING, region STRING, day STRING)
ROW FORMAT SERDE 'org.apache.hive.hcatalog.data.JsonSerDe'
STORED AS INPUTFORMAT 'com.amazon.emr.cloudtrail.CloudTrailInputFormat'
OUTPUTFORMAT 'org.apache.hadoop.hive.ql.io.HiveIgnoreKeyTextOutputFormat'
LOCATION 'ROOT'
TBLPROPERTIES (
  'projection.enabled'='true',
  'projection.account.type'='enum',
  'projection.account.values'='ACCOUNTS',
  'projection.region.type'='enum',
  'projection.region.values'='REGIONS',
  'projection.day.type'='date',
  'projection.day.format'='yyyy/MM/dd',
  'projection.day.range'='2020/01/01,NOW',
  'projection.day.interval'='1',
  'projection.day.interval.unit'='DAYS',
  'storage.location.template'='ROOT${account}/CloudTrail/${region}/${day}'
)`
