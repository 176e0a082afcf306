"""Who AWS says we are, through boto3's default chain and nothing else."""
import boto3

print(boto3.client("sts").get_caller_identity()["Arn"])
