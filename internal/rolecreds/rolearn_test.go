package rolecreds

import (
	"strings"
	"testing"
)

func TestExpandRoleARN(t *testing.T) {
	const perProfile = "arn:{partition}:iam::{account}:role/SageMakerStudioExecutionRole_{name}"
	for _, test := range []struct {
		template, account, partition, name, want string
	}{
		{"arn:aws:iam::{account}:role/SageMakerStudioExecutionRole_{name}", "111122223333", "aws", "alice", "arn:aws:iam::111122223333:role/SageMakerStudioExecutionRole_alice"},
		{perProfile, "111122223333", "aws-cn", "alice", "arn:aws-cn:iam::111122223333:role/SageMakerStudioExecutionRole_alice"},
		{testRole, "", "", "", testRole},
		{perProfile, "111122223333", "aws", "../Admin", ""},
		{perProfile, "111122223333", "aws", "x/Admin", ""},
		{perProfile, "111122223333", "aws", "*", ""},
		{perProfile, "111122223333", "aws", "a b", ""},
		{perProfile, "111122223333", "aws", "{account}", ""},
		{perProfile, "111122223333", "aws", "", ""},
		{perProfile, "111122223333", "aws", strings.Repeat("a", 40), ""}, // 69 characters
		{perProfile, "1111", "aws", "alice", ""},
		{perProfile, "11112222333a", "aws", "alice", ""},
		{perProfile, "111122223333", "example", "alice", ""},
		{perProfile, "111122223333", "aws:iam::444455556666:role/x", "alice", ""},
		{perProfile, "111122223333:role/x", "aws", "alice", ""},
		{perProfile + "{nmae}", "111122223333", "aws", "alice", ""},
		{perProfile + "{", "111122223333", "aws", "alice", ""},
		{"arn:aws:iam::{account}:user/{name}", "111122223333", "aws", "alice", ""},
		{"arn:aws:sts::{account}:role/{name}", "111122223333", "aws", "alice", ""},
		{"role/{name}", "111122223333", "aws", "alice", ""},
		{"arn:aws:iam::{account}:role/", "111122223333", "aws", "alice", ""},
		{"", "111122223333", "aws", "alice", ""},
	} {
		got, err := ExpandRoleARN(test.template, test.account, test.partition, test.name)
		if got != test.want || (err != nil) != (test.want == "") {
			t.Errorf("ExpandRoleARN(%q, %q, %q, %q) = %q, %v", test.template, test.account, test.partition, test.name, got, err)
		}
	}
}
