import org.junit.Test;

public class CheckTest {
    @Test
    public void runs() {
        System.out.println("checked");
    }
}
