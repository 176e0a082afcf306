// Who AWS says we are, through the JavaScript SDK's default chain.
const { STSClient, GetCallerIdentityCommand } = require("@aws-sdk/client-sts");

new STSClient({})
  .send(new GetCallerIdentityCommand({}))
  .then((answer) => console.log(answer.Arn))
  .catch((err) => {
    console.error(err.message);
    process.exit(1);
  });
