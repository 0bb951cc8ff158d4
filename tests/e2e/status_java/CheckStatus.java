import java.io.FileInputStream;
import java.io.InputStream;
import java.security.Security;
import java.security.cert.CertPathValidator;
import java.security.cert.CertPathValidatorException;
import java.security.cert.CertificateFactory;
import java.security.cert.CertificateRevokedException;
import java.security.cert.PKIXParameters;
import java.security.cert.PKIXRevocationChecker;
import java.security.cert.PKIXRevocationChecker.Option;
import java.security.cert.TrustAnchor;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.EnumSet;
import java.util.List;
import java.util.Set;

/**
 * Checks leaves as Java's PKIX does: by OCSP alone, then by the CRL that each leaf points at alone.
 *
 * Arguments: the root, the issuing CA, then leaves. Prints a line for each leaf: what OCSP said, what the CRL said.
 */
public final class CheckStatus {
    public static void main(String[] files) throws Exception {
        Security.setProperty("ocsp.enable", "true");
        System.setProperty("com.sun.security.enableCRLDP", "true");
        X509Certificate root = read(files[0]);
        X509Certificate issuer = read(files[1]);
        for (int at = 2; at < files.length; at++) {
            X509Certificate leaf = read(files[at]);
            EnumSet<Option> alone = EnumSet.of(Option.ONLY_END_ENTITY, Option.NO_FALLBACK);
            String byOcsp = check(root, issuer, leaf, alone);
            alone.add(Option.PREFER_CRLS);
            System.out.println(byOcsp + " " + check(root, issuer, leaf, alone));
        }
    }

    private static String check(X509Certificate root, X509Certificate issuer, X509Certificate leaf, Set<Option> options)
            throws Exception {
        CertPathValidator validator = CertPathValidator.getInstance("PKIX");
        PKIXRevocationChecker checker = (PKIXRevocationChecker) validator.getRevocationChecker();
        checker.setOptions(options);
        PKIXParameters parameters = new PKIXParameters(Set.of(new TrustAnchor(root, null)));
        parameters.addCertPathChecker(checker);
        try {
            List<X509Certificate> path = new ArrayList<>(List.of(leaf, issuer));
            validator.validate(CertificateFactory.getInstance("X.509").generateCertPath(path), parameters);
            return "good";
        } catch (CertPathValidatorException error) {
            if (error.getCause() instanceof CertificateRevokedException) {
                return ((CertificateRevokedException) error.getCause()).getRevocationReason().name();
            }
            return error.getReason() + ":" + error.getMessage();
        }
    }

    private static X509Certificate read(String file) throws Exception {
        try (InputStream content = new FileInputStream(file)) {
            return (X509Certificate) CertificateFactory.getInstance("X.509").generateCertificate(content);
        }
    }
}
