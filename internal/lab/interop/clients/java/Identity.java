import software.amazon.awssdk.services.sts.StsClient;

/** Who AWS says we are, through the Java SDK's default chain. */
public final class Identity {
    public static void main(String[] args) {
        try (StsClient sts = StsClient.create()) {
            System.out.println(sts.getCallerIdentity().arn());
        }
    }
}
